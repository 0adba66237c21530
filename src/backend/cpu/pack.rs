//! Weights in the order in which the CPU kernels read them.

/// A run of output channels that one register tile computes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// First output channel (of the padded ones).
    pub first: usize,
    /// Vectors in a row of the tile: 1, 2 or 3.
    pub vectors: usize,
    /// Where its weights begin: `[tap][cin][vectors * lanes]`.
    pub offset: usize,
}

/// Weights, bias and activation slope of one convolution, packed for vectors of `lanes`.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Input channels read, in kernel order.
    pub(super) cin: usize,
    /// Output channels without padding.
    pub(super) cout: usize,
    /// Output channels computed: a multiple of `lanes`.
    pub(super) padded: usize,
    /// Lanes that the layout is made for.
    pub(super) lanes: usize,
    pub(super) blocks: Vec<Block>,
    pub(super) weights: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) slope: Vec<f32>,
}

/// Blocks of two vectors, with one of three or one vector where the count is odd; none crosses a multiple of `group`.
fn blocks(padded: usize, group: usize, lanes: usize, values_per_channel: usize) -> Vec<Block> {
    let mut made = Vec::new();
    let mut first = 0;
    while first < padded {
        let left = (group - first % group) / lanes;
        let vectors = if left % 2 == 1 { left.min(3) } else { 2 };
        made.push(Block { first, vectors, offset: first * values_per_channel });
        first += vectors * lanes;
    }
    made
}

impl Packed {
    /// Packs `taps` x `cin` weights of `padded` output channels.
    ///
    /// `weight(co, tap, ci)`, `bias(co)` and `slope(co)` give the values; they must answer 0 for padding. Channels
    /// are stored in runs of `group`, which divides `padded`. `lanes` is the vector width wished for; 8 is taken
    /// where `group` is no multiple of it.
    pub(super) fn new(
        (taps, cin, cout): (usize, usize, usize),
        (padded, group): (usize, usize),
        lanes: usize,
        weight: impl Fn(usize, usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
        slope: impl Fn(usize) -> f32,
    ) -> Self {
        assert!(group.is_multiple_of(8), "runs of {group} output channels are not padded to 8");
        assert!(padded.is_multiple_of(group), "{padded} channels in runs of {group}");
        let lanes = if group.is_multiple_of(lanes) { lanes } else { 8 };
        let blocks = blocks(padded, group, lanes, taps * cin);
        let mut weights = Vec::with_capacity(taps * cin * padded);
        for block in &blocks {
            for tap in 0..taps {
                for ci in 0..cin {
                    let channels = block.first..block.first + block.vectors * lanes;
                    weights.extend(channels.map(|co| weight(co, tap, ci)));
                }
            }
        }
        Self {
            cin,
            cout,
            padded,
            lanes,
            blocks,
            weights,
            bias: (0..padded).map(bias).collect(),
            slope: (0..padded).map(slope).collect(),
        }
    }
}
