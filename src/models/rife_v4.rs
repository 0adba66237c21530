//! RIFE v4 (IFNet): every published layout from 4.0 to 4.26, told apart by tensor names and shapes, at any width.
//!
//! | versions | block | end of a block | head | mask | factors |
//! |---|---|---|---|---|---|
//! | 4.0, 4.1 | PReLU, sum round the chain | deconv to 5 | none | summed | 8 4 2 1 |
//! | 4.2 to 4.4 | LeakyReLU | deconv to 5 | none | summed | 8 4 2 1 |
//! | 4.5 / 4.6 | LeakyReLU, residual with beta | deconv to 20 / 24, shuffle | none | summed | 8 4 2 1 |
//! | 4.7 to 4.9 | same | 24 | conv, deconv to 4, no activation | last | 8 4 2 1 |
//! | 4.10 to 4.20, 4.24 | same | 24 | three convs, deconv to 8 (lite: 4) | last | 8 4 2 1 |
//! | 4.21 to 4.23, 4.22.lite | same, 8 features handed on | 52 | same | last | 8 4 2 1 |
//! | 4.25, 4.26, heavy | same, five blocks | 52 | deconv to 4 (4.26.heavy: 16) | last | 16 8 4 2 1 |
//! | 4.25.lite | same | 52 | deconv to 4 | last | 32 16 8 4 1 |
//!
//! 4.14.lite has convolutions in two groups; they are widened to plain ones here. 4.25.lite has the names and shapes of
//! 4.25 but other factors. **Rule:** a five-block file is 4.25.lite if its metadata ([`VERSION_KEYS`]) says a version
//! that ends in `lite`; without such metadata, if its block widths are those published (192, 128, 96, 64, 24).
//!
//! v4.0 and v4.1 as published double all factors and start again where block 1 moves both flows by more than 32 px
//! anywhere. That branch is **not** taken here: one far pixel would change the whole picture from one frame to the next,
//! and the doubled factors do not divide every padded size.
//!
//! Source: `IFNet_HDv3` of hzwer/Practical-RIFE, one definition a version as collected in HolyWu/vs-rife.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::config::settings::Sampling;
use crate::models::ModelError;
use crate::models::pyramid::{self, Visit};
use crate::models::weights::Weights;
use crate::ops::conv::{Activation, ConvWeights, Residual, Stride};
use crate::ops::deconv::{DeconvWeights, Shuffle};
use crate::ops::flow::{HANDED_ON, MaskRule};
use crate::ops::head::HeadWeights;

/// Metadata keys that may name the version, in order of preference.
pub const VERSION_KEYS: [&str; 2] = ["slomod.version", "model_version"];

/// Convolutions in a block's chain.
const CHAIN_LENGTH: usize = 8;
/// Block widths of the published 4.25.lite.
const LITE_WIDTHS: [usize; 5] = [192, 128, 96, 64, 24];

/// Said of v4.0 and v4.1.
const NO_RESTART: &str = "motions over 32 px do not start v4.0/v4.1 again at doubled factors";

/// One block.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Two convolutions of stride 2; the first reads the stage.
    pub conv0: [ConvWeights; 2],
    /// The chain.
    pub convblock: Vec<ConvWeights>,
    /// Flow, mask, features handed on; unread channels are already left out but for the last block's features.
    pub lastconv: DeconvWeights,
}

/// Whether the input of a block's chain is added to its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainSum {
    /// No.
    None,
    /// Yes (v4.0, v4.1).
    Added,
}

/// A checked network.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Layout, such as `rife v4.25/v4.26`.
    pub name: String,
    /// Coarse to fine.
    pub blocks: Vec<Block>,
    /// Feature network; absent up to v4.6.
    pub head: Option<HeadWeights>,
    /// Whether the input of a block's chain is added to its output.
    pub chain_sum: ChainSum,
    /// How mask logits combine.
    pub mask: MaskRule,
    /// Features that a block hands on: 0 or 8.
    pub handed_on: usize,
    /// The blocks in the order in which they work, a last one last.
    pub visits: Vec<Visit>,
    /// Picture pixels for each pixel of a block's output, over that of the block: 2 where there is no pixel shuffle.
    pub output_step: f32,
    /// Sides are padded to a multiple of this, or of this over the scale where that is more.
    pub pad_multiple: usize,
    /// How the new pictures read the frames; read from a file: as the authors' program does it.
    pub sampling: Sampling,
    /// Whether the flows are refined at the end, which the authors' program does not do.
    pub refine: bool,
    /// What the file holds beside the network, in words.
    pub notes: Vec<String>,
}

impl Network {
    /// Checks a file and reads the network from it.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] that names the tensor, what was found and what was expected.
    pub fn read(weights: &Weights) -> Result<Self, ModelError> {
        let reader = Reader { weights, used: RefCell::default() };
        let layout = reader.layout()?;
        let head = reader.head(layout.head)?;
        let features = head.as_ref().map_or(0, |head| head.deconv.out_channels);
        let blocks = (0..layout.blocks)
            .map(|index| reader.block(index, &layout, features))
            .collect::<Result<Vec<_>, _>>()?;
        let mut notes = reader.leftovers()?;
        if layout.chain == Chain::Prelu {
            notes.push(NO_RESTART.to_owned());
        }
        let widths: Vec<_> = blocks.iter().map(|block| block.conv0[1].out_channels).collect();
        let lite = reader.is_coarse_lite(&widths);
        let mask = if head.is_some() { MaskRule::Last } else { MaskRule::Sum };
        let usual = match (layout.blocks, lite) {
            (4, _) => pyramid::once(&[8.0, 4.0, 2.0, 1.0]),
            (_, false) => pyramid::once(&[16.0, 8.0, 4.0, 2.0, 1.0]),
            (_, true) => pyramid::once(&[32.0, 16.0, 8.0, 4.0, 1.0]),
        };
        let visits = pyramid::of_file(weights, layout.blocks, mask)?.unwrap_or(usual);
        let plain_end = layout.end == End::Plain;
        Ok(Self {
            name: format!("rife {}", layout.versions(features, lite)),
            blocks,
            mask,
            head,
            chain_sum: if layout.chain == Chain::Prelu { ChainSum::Added } else { ChainSum::None },
            handed_on: layout.handed_on(),
            pad_multiple: pyramid::pad_multiple(&visits),
            visits,
            output_step: if plain_end { 2.0 } else { 1.0 },
            sampling: Sampling::Bilinear,
            refine: false,
            notes,
        })
    }

    /// Feature channels of a frame: 0, 4, 8 or 16.
    #[must_use]
    pub fn features(&self) -> usize {
        self.head.as_ref().map_or(0, |head| head.deconv.out_channels)
    }
}

/// Whether a tensor of that name belongs to the network as inference uses it: a block's or the head's.
#[must_use]
pub fn is_part(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or(name);
    let block = first.strip_prefix("block").is_some_and(|number| number.parse::<u32>().is_ok());
    block || first == "encode"
}

/// A side with its padding, for a network that pads to `multiple`, at a flow scale (0.25, 0.5, 1 or 2).
#[must_use]
pub fn padded(side_px: usize, multiple: usize, scale: f32) -> usize {
    side_px.next_multiple_of(multiple.max((multiple as f32 / scale) as usize))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    Prelu,
    Leaky,
    Residual { groups: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// `lastconv`: 5 channels, twice the size.
    Plain,
    /// `lastconv.0`, then a pixel shuffle.
    Shuffled { channels: usize },
}

/// In the order in which names of one kind overrule those before: all heads but the named one have a layer 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Head {
    None,
    /// `encode.0`, `encode.1`.
    Short,
    /// `encode.0`, `.2`, `.4`, `.6`.
    Numbered,
    /// `encode.cnn0` to `cnn3`.
    Named,
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    chain: Chain,
    end: End,
    head: Head,
    blocks: usize,
}

impl Layout {
    fn handed_on(&self) -> usize {
        if self.end == (End::Shuffled { channels: 52 }) { 8 } else { 0 }
    }

    /// Which versions have this layout.
    fn versions(&self, features: usize, lite: bool) -> &'static str {
        match (self.chain, self.end, self.head, features) {
            (Chain::Prelu, ..) => "v4.0/v4.1",
            (Chain::Leaky, ..) => "v4.2-v4.4",
            (_, End::Shuffled { channels: 20 }, ..) => "v4.5",
            (_, _, Head::None, _) => "v4.6",
            (_, _, Head::Short, _) => "v4.7-v4.9",
            (_, _, Head::Numbered, 4) => "v4.12.lite/v4.13.lite",
            (_, _, Head::Numbered, _) => "v4.10-v4.13",
            (Chain::Residual { groups: 2 }, ..) => "v4.14.lite",
            (_, End::Shuffled { channels: 24 }, _, 4) => "v4.15.lite-v4.17.lite",
            (_, End::Shuffled { channels: 24 }, ..) => "v4.14-v4.20/v4.24",
            (_, _, _, 4) if self.blocks == 4 => "v4.22.lite",
            _ if self.blocks == 4 => "v4.21-v4.23",
            _ if lite => "v4.25.lite",
            (_, _, _, 16) => "v4.26.heavy",
            _ => "v4.25/v4.26",
        }
    }
}

/// Reads tensors and remembers which.
struct Reader<'a> {
    weights: &'a Weights,
    used: RefCell<BTreeSet<String>>,
}

impl Reader<'_> {
    fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.used.borrow_mut().insert(name.to_owned());
        self.weights.read(name, shape)
    }

    /// One dimension of a tensor of four.
    fn dimension(&self, name: &str, axis: usize) -> Result<usize, ModelError> {
        let shape = self.weights.require(name, "[out, in, 3, 3] or [in, out, 4, 4]")?;
        if shape.len() == 4 && (1..=MAX_CHANNELS).contains(&shape[axis]) {
            return Ok(shape[axis]);
        }
        let reason = format!(
            "tensor `{name}` has shape {shape:?}, expected four dimensions of at most {MAX_CHANNELS} channels"
        );
        Err(self.weights.invalid(reason))
    }

    /// Told by all names of a kind, so that where a tensor is missing or misshapen that one is blamed and no other.
    fn layout(&self) -> Result<Layout, ModelError> {
        let names = || self.weights.names().map(|name| name.split('.').collect::<Vec<_>>());
        let number = |part: &str| part.strip_prefix("block")?.parse::<u32>().ok();
        let blocks = names().filter_map(|parts| number(parts[0])).max();
        let blocks = blocks.map_or(0, |last| last as usize + 1);
        if !(blocks == 4 || blocks == 5) {
            let reason = format!(
                "holds {blocks} blocks (`blockN.*`), expected the 4 or 5 of a RIFE v4 network"
            );
            return Err(self.weights.invalid(reason));
        }
        let in_block = |rest: fn(&[&str]) -> bool| {
            names().any(|parts| number(parts[0]).is_some() && rest(&parts[1..]))
        };
        let chain = if in_block(|rest| matches!(rest, ["convblock", _, "conv" | "beta", ..])) {
            Chain::Residual { groups: self.groups(blocks) }
        } else if in_block(|rest| matches!(rest, ["conv0" | "convblock", _, "1", _])) {
            Chain::Prelu
        } else {
            Chain::Leaky
        };
        let end = match chain {
            Chain::Residual { .. } => self.shuffled_end(blocks)?,
            Chain::Prelu | Chain::Leaky => End::Plain,
        };
        let mut head = Head::None;
        for layer in
            names().filter(|parts| parts[0] == "encode").filter_map(|it| it.get(1).copied())
        {
            let of_layer = match layer.parse::<u32>() {
                Ok(0 | 1) => Head::Short,
                Ok(_) => Head::Numbered,
                Err(_) => Head::Named,
            };
            head = head.max(of_layer);
        }
        Ok(Layout { chain, end, head, blocks })
    }

    /// Groups of the convolutions in the chains, as most have them.
    fn groups(&self, blocks: usize) -> usize {
        let names = (0..blocks).flat_map(|block| {
            (0..CHAIN_LENGTH).map(move |part| format!("block{block}.convblock.{part}.conv.weight"))
        });
        let shapes: Vec<_> = names.filter_map(|name| self.weights.shape(&name)).collect();
        let halved = shapes.iter().filter(|it| it.len() == 4 && 2 * it[1] == it[0]).count();
        if 2 * halved > shapes.len() { 2 } else { 1 }
    }

    /// The end with as many channels as most blocks have.
    fn shuffled_end(&self, blocks: usize) -> Result<End, ModelError> {
        let name = |block: usize| format!("block{block}.lastconv.0.weight");
        let channels: Vec<_> =
            (0..blocks).filter_map(|it| self.weights.shape(&name(it))?.get(1).copied()).collect();
        let count = |of: usize| channels.iter().filter(|it| **it == of).count();
        if let Some(channels) = [20, 24, 52].into_iter().find(|it| 2 * count(*it) > channels.len())
        {
            return Ok(End::Shuffled { channels });
        }
        let channels = self.dimension(&name(0), 1)?;
        let reason =
            format!("tensor `{}` has {channels} output channels, expected 20, 24 or 52", name(0));
        Err(self.weights.invalid(reason))
    }

    fn is_coarse_lite(&self, widths: &[usize]) -> bool {
        let version = VERSION_KEYS.iter().find_map(|key| self.weights.metadata(key));
        version.map_or(widths == LITE_WIDTHS, |version| version.trim().ends_with("lite"))
    }

    /// A plain convolution `NAME.weight`, `NAME.bias`.
    fn conv(
        &self,
        name: &str,
        in_channels: usize,
        stride: Stride,
        activation: Activation,
    ) -> Result<ConvWeights, ModelError> {
        let out_channels = self.dimension(&format!("{name}.weight"), 0)?;
        Ok(ConvWeights {
            in_channels,
            out_channels,
            weight: self.read(&format!("{name}.weight"), &[out_channels, in_channels, 3, 3])?,
            bias: self.read(&format!("{name}.bias"), &[out_channels])?,
            stride,
            residual: Residual::None,
            activation,
        })
    }

    /// `NAME.0`, followed by a LeakyReLU or by the PReLU `NAME.1`.
    fn activated(
        &self,
        name: &str,
        in_channels: usize,
        stride: Stride,
        chain: Chain,
    ) -> Result<ConvWeights, ModelError> {
        let plain = format!("{name}.0");
        let mut conv = self.conv(&plain, in_channels, stride, Activation::LeakyRelu)?;
        if chain == Chain::Prelu {
            let slopes = self.read(&format!("{name}.1.weight"), &[conv.out_channels])?;
            conv.activation = Activation::Prelu(slopes);
        }
        Ok(conv)
    }

    /// `lrelu(conv(x) * beta + x)`, with beta folded in and groups widened.
    fn residual(&self, name: &str, c: usize, groups: usize) -> Result<ConvWeights, ModelError> {
        if !c.is_multiple_of(groups) {
            let reason =
                format!("`{name}` has {c} channels, expected a multiple of its {groups} groups");
            return Err(self.weights.invalid(reason));
        }
        let weight = self.read(&format!("{name}.conv.weight"), &[c, c / groups, 3, 3])?;
        let conv = ConvWeights {
            in_channels: c,
            out_channels: c,
            weight: if groups == 1 { weight } else { widen_groups(&weight, c, groups) },
            bias: self.read(&format!("{name}.conv.bias"), &[c])?,
            stride: Stride::One,
            residual: Residual::Input,
            activation: Activation::LeakyRelu,
        };
        let conv = conv.fold_beta(&self.read(&format!("{name}.beta"), &[1, c, 1, 1])?);
        // Each of them is finite, and their product need not be.
        if !conv.weight.iter().chain(&conv.bias).all(|it| it.is_finite()) {
            let reason = format!("`{name}.beta` times its convolution is too large for a number");
            return Err(self.weights.invalid(reason));
        }
        Ok(conv)
    }

    fn deconv(
        &self,
        name: &str,
        in_channels: usize,
        out_channels: usize,
        shuffle: Shuffle,
    ) -> Result<DeconvWeights, ModelError> {
        Ok(DeconvWeights {
            in_channels,
            out_channels,
            weight: self.read(&format!("{name}.weight"), &[in_channels, out_channels, 4, 4])?,
            bias: self.read(&format!("{name}.bias"), &[out_channels])?,
            shuffle,
        })
    }

    fn block(&self, index: usize, layout: &Layout, features: usize) -> Result<Block, ModelError> {
        let name = format!("block{index}");
        let frames = 2 * (3 + features) + 1;
        let inputs = if index == 0 { frames } else { frames + 1 + layout.handed_on() + 4 };
        let down = |part: usize, inputs: usize| {
            self.activated(&format!("{name}.conv0.{part}"), inputs, Stride::Two, layout.chain)
        };
        let first = down(0, inputs)?;
        let second = down(1, first.out_channels)?;
        let c = second.out_channels;
        let link = |part: usize| {
            let name = format!("{name}.convblock.{part}");
            let conv = match layout.chain {
                Chain::Residual { groups } => self.residual(&name, c, groups)?,
                chain => self.activated(&name, c, Stride::One, chain)?,
            };
            if conv.out_channels == c {
                return Ok(conv);
            }
            let found = conv.out_channels;
            let reason =
                format!("tensor `{name}.0.weight` has {found} output channels, expected {c}");
            Err(self.weights.invalid(reason))
        };
        let convblock = (0..CHAIN_LENGTH).map(link).collect::<Result<_, _>>()?;
        let lastconv = match layout.end {
            End::Plain => self.deconv(&format!("{name}.lastconv"), c, HANDED_ON, Shuffle::None)?,
            End::Shuffled { channels } => self
                .deconv(&format!("{name}.lastconv.0"), c, channels, Shuffle::ByTwo)?
                // v4.6 to v4.20 have a sixth channel that nothing reads.
                .first_channels(HANDED_ON + layout.handed_on()),
        };
        Ok(Block { conv0: [first, second], convblock, lastconv })
    }

    fn head(&self, head: Head) -> Result<Option<HeadWeights>, ModelError> {
        let (convs, last): (&[&str], &str) = match head {
            Head::None => return Ok(None),
            Head::Short => (&["encode.0"], "encode.1"),
            Head::Numbered => (&["encode.0", "encode.2", "encode.4"], "encode.6"),
            Head::Named => (&["encode.cnn0", "encode.cnn1", "encode.cnn2"], "encode.cnn3"),
        };
        let mut layers: Vec<ConvWeights> = vec![];
        for name in convs {
            let inputs = layers.last().map_or(3, |layer| layer.out_channels);
            let stride = if layers.is_empty() { Stride::Two } else { Stride::One };
            let short = head == Head::Short;
            let activation = if short { Activation::None } else { Activation::LeakyRelu };
            layers.push(self.conv(name, inputs, stride, activation)?);
        }
        let inputs = layers.last().map_or(3, |layer| layer.out_channels);
        let features = self.dimension(&format!("{last}.weight"), 1)?;
        if ![4, 8, 16].contains(&features) {
            let reason =
                format!("tensor `{last}.weight` makes {features} features, expected 4, 8 or 16");
            return Err(self.weights.invalid(reason));
        }
        let deconv = self.deconv(last, inputs, features, Shuffle::None)?;
        Ok(Some(HeadWeights { convs: layers, deconv }))
    }

    /// Notes on tensors outside the network; an error for one inside it that was not understood.
    fn leftovers(&self) -> Result<Vec<String>, ModelError> {
        let used = self.used.borrow();
        let unused = || self.weights.names().filter(|name| !used.contains(*name));
        if let Some(name) = unused().find(|name| is_part(name)) {
            let shape = self.weights.shape(name).unwrap_or_default();
            let reason = format!(
                "tensor `{name}` of shape {shape:?} belongs to no known RIFE v4 layout; \
                 expected nothing of that name beside the others"
            );
            return Err(self.weights.invalid(reason));
        }
        let mut groups: Vec<_> =
            unused().map(|name| name.split('.').next().unwrap_or(name)).collect();
        groups.dedup();
        Ok(groups
            .iter()
            .map(|group| format!("`{group}.*` is not used for inference and was ignored"))
            .collect())
    }
}

/// Largest channel count of one layer; published networks have at most 384.
const MAX_CHANNELS: usize = 4096;

/// `[c, c / groups, 3, 3]` to `[c, c, 3, 3]` with zeros between the groups.
fn widen_groups(weight: &[f32], c: usize, groups: usize) -> Vec<f32> {
    let part = c / groups;
    let mut wide = vec![0.0; c * c * 9];
    for (out, row) in weight.chunks_exact(part * 9).enumerate() {
        let start = (out * c + out / part * part) * 9;
        wide[start..start + part * 9].copy_from_slice(row);
    }
    wide
}
