//! The compiled shapes of the tiled kernels, as `kernels/instances.h` lists them, and the choice among them.

use std::sync::Arc;

use super::driver::{DeviceDescription, DeviceError, Driver, Launch};
use super::pack::CHUNK;

/// What a line of the list is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 3x3 convolution.
    Conv,
    /// Transposed convolution with pixel shuffle, one phase a block.
    Deconv,
    /// Transposed convolution without pixel shuffle.
    DeconvPlain,
    /// First layer of the head.
    HeadFirst,
    /// Last layer of the head.
    HeadLast,
}

const KINDS: [(&str, Kind); 6] = [
    ("CONV", Kind::Conv),
    ("CONV_SPLIT", Kind::Conv),
    ("DECONV", Kind::Deconv),
    ("DECONV_PLAIN", Kind::DeconvPlain),
    ("HEAD_FIRST", Kind::HeadFirst),
    ("HEAD_LAST", Kind::HeadLast),
];

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// What it is for.
    pub kind: Kind,
    /// Name of the kernel.
    pub name: &'static str,
    /// Step of the window.
    pub stride: usize,
    /// Output channels of a block.
    pub nb: usize,
    /// Rows and columns of a block's tile.
    pub tile: [usize; 2],
    /// Warps that share the pixels of a tile.
    pub warps: usize,
    /// Groups of so many warps that share its input channels.
    pub groups: usize,
}

/// How an instance is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which one.
    pub instance: Instance,
    /// Chunks of 16 channels in flight.
    pub stages: usize,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: usize,
}

/// The work for which an instance is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Pictures, or pictures times phases.
    pub n: usize,
    /// Rows and columns over which tiles are laid.
    pub size: [usize; 2],
    /// Input channels in memory.
    pub cin: usize,
    /// Output channels in memory, or of the product where it is another.
    pub cout: usize,
}

/// Chunks in flight at most, as in `kernels/tile.cuh`.
const STAGES_MAX: usize = 4;

/// All lines of `kernels/instances.h`, in their order.
#[must_use]
pub fn all() -> Vec<Instance> {
    include_str!("../../../kernels/instances.h").lines().filter_map(parse).collect()
}

fn parse(line: &'static str) -> Option<Instance> {
    let (word, columns) = line.strip_suffix(')')?.split_once('(')?;
    let (_, kind) = KINDS.into_iter().find(|(it, _)| *it == word)?;
    let mut columns = columns.split(',').map(str::trim);
    let name = columns.next()?;
    let mut number = || columns.next()?.parse().ok();
    let (stride, nb) = (number()?, number()?);
    let (tile, warps) = ([number()?, number()?], number()?);
    Some(Instance { kind, name, stride, nb, tile, warps, groups: number().unwrap_or(1) })
}

impl Instance {
    /// Threads of a block.
    #[must_use]
    pub fn threads(&self) -> u32 {
        (32 * self.warps * self.groups) as u32
    }

    /// Blocks along columns and rows for a picture of `size`.
    #[must_use]
    pub fn tiles(&self, [h, w]: [usize; 2]) -> [u32; 2] {
        [w.div_ceil(self.tile[1]) as u32, h.div_ceil(self.tile[0]) as u32]
    }

    fn pixels(&self) -> usize {
        self.tile[0] * self.tile[1]
    }

    /// Rows and columns of input for one output, and products for them.
    fn window(&self) -> (usize, usize) {
        if self.kind == Kind::Deconv { (2, 4) } else { (3, 9) }
    }

    /// Bytes of a stage: a chunk of the halo tile and its weights.
    #[must_use]
    pub fn stage_bytes(&self) -> usize {
        let (window, taps) = self.window();
        let [h, w] = self.tile.map(|side| (side - 1) * self.stride + window);
        (h * w * 2 * CHUNK).next_multiple_of(128) + taps * self.nb * 2 * CHUNK
    }

    /// Stages that are of use for so many input channels.
    #[must_use]
    pub fn stages_max(&self, cin: usize) -> usize {
        (cin / CHUNK).div_ceil(self.groups).clamp(1, STAGES_MAX)
    }

    /// Bytes in which a block gathers what it writes.
    fn output_bytes(&self) -> usize {
        match self.kind {
            Kind::Conv => 2 * self.pixels() * self.nb,
            // Sums in float with a gap of 8, see `sums_pitch` in `kernels/deconv.cuh`.
            Kind::Deconv | Kind::DeconvPlain | Kind::HeadLast => 4 * self.pixels() * (self.nb + 8),
            // The rows of the product, 32 halves a pixel, then the output.
            Kind::HeadFirst => 2 * self.pixels() * self.nb.max(32),
        }
    }

    /// Bytes in which the sums of all groups but the first wait.
    fn sums_bytes(&self) -> usize {
        4 * (self.groups - 1) * self.pixels() * self.nb
    }

    /// Dynamic shared memory of a block with that many stages, each a chunk for every group, in bytes.
    #[must_use]
    pub fn shared_bytes(&self, stages: usize) -> usize {
        let stages = if self.kind == Kind::HeadFirst { 0 } else { stages * self.groups };
        (stages * self.stage_bytes()).max(self.output_bytes()).max(self.sums_bytes())
    }

    fn cycles(&self, stages: usize, work: &Work, device: &DeviceDescription) -> f64 {
        let (_, taps) = self.window();
        let (m_tiles, n_tiles) = (self.pixels() / 16 / self.warps, self.nb / 8);
        let [across, down] = self.tiles(work.size).map(|it| it as usize);
        let blocks = across * down * work.n * (work.cout / self.nb);
        let busiest = blocks.div_ceil(device.multiprocessors.max(1) as usize);

        // Blocks that fit a multiprocessor at a time; a thread needs its sums and some 96 registers more.
        let by_memory = (device.shared_bytes as usize + 1024) / (self.shared_bytes(stages) + 1024);
        let registers = (4 * m_tiles * n_tiles + 96).min(255);
        let by_registers = 65536 / (32 * self.warps * self.groups * registers);
        let resident = by_memory.min(by_registers).clamp(1, busiest);

        let products = (taps * m_tiles * n_tiles * self.warps) as f64;
        let fed_bytes = (512 * taps * (m_tiles + n_tiles / 2) * self.warps) as f64;
        let parts = [
            products * CYCLES_OF_PRODUCT,
            fed_bytes / SHARED_BYTES_PER_CYCLE,
            self.stage_bytes() as f64 / L2_BYTES_PER_CYCLE,
        ];
        let rate = not_hidden(parts);
        // One block by itself waits for its own chain of reads and products, and for loads that came too late. In a round
        // each group has a chunk.
        let chain =
            taps as f64 * (CYCLES_OF_TAP + (m_tiles * n_tiles) as f64 * CYCLES_OF_TAP_PRODUCT);
        let own = (rate * self.groups as f64).max(chain);
        let (chunks, rounds) = (work.cin / CHUNK, (work.cin / CHUNK).div_ceil(self.groups));
        let hidden = if stages >= rounds {
            CYCLES_OF_LOAD
        } else {
            (stages - 1) as f64 * own * resident as f64 * HIDING
        };
        let (late, chunks) = ((CYCLES_OF_LOAD - hidden).max(0.0), chunks as f64);
        let sums = self.sums_bytes() as f64 * CYCLES_OF_SUMS_BYTE;
        let alone = CYCLES_OF_LOAD + rounds as f64 * (own + late) + sums + CYCLES_OF_END;
        let store = self.pixels() as f64 * self.nb as f64 * 2.0 / L2_BYTES_PER_CYCLE;
        let together = busiest as f64 * (chunks * rate + store);
        not_hidden([together, busiest.div_ceil(resident) as f64 * alone])
    }
}

// Times of a model of one multiprocessor, chosen so that the shapes it picks are fast, not so that its cycles are those of a
// clock: with these the convolutions of v4.6, v4.22 and v4.26 at 1920x1080, alone and in batches of four, take 2.4 % longer
// on an H200 than with the fastest shape for each (`--bench sweep`; benches/results/gpu.md). It ranks shapes of one product,
// and ranks them alike on other chips, whose parts are in similar proportion.
/// Cycles for a product of 16x8x16.
const CYCLES_OF_PRODUCT: f64 = 2.16;
/// Shared memory.
const SHARED_BYTES_PER_CYCLE: f64 = 155.0;
/// What the second-level cache delivers to each multiprocessor.
const L2_BYTES_PER_CYCLE: f64 = 15.3;
/// Share of shorter parts (products, reads of shared memory, loads) that the longest does not hide.
const NOT_HIDDEN: f64 = 0.554;
/// From one tap to the next where a warp is alone, and more for each of its products.
const CYCLES_OF_TAP: f64 = 14.0;
const CYCLES_OF_TAP_PRODUCT: f64 = 20.8;
/// To hand a byte of sums from group to group.
const CYCLES_OF_SUMS_BYTE: f64 = 0.0435;
/// From the start of a load to its end.
const CYCLES_OF_LOAD: f64 = 258.0;
/// How much of a later load the work on a chunk hides, by its own length.
const HIDING: f64 = 1.25;
/// Start, last barrier, activation, store.
const CYCLES_OF_END: f64 = 140.0;

/// The longest of times that overlap, and what it leaves of the others.
fn not_hidden<const N: usize>(parts: [f64; N]) -> f64 {
    let longest = parts.into_iter().fold(0.0, f64::max);
    longest + NOT_HIDDEN * (parts.iter().sum::<f64>() - longest)
}

/// The instance among `candidates` that the model takes for the fastest; `None` if none divides the channels and fits the
/// device's shared memory.
#[must_use]
pub fn choose(candidates: &[Instance], work: &Work, device: &DeviceDescription) -> Option<Choice> {
    let mut best: Option<(f64, Choice)> = None;
    for instance in candidates.iter().filter(|it| work.cout.is_multiple_of(it.nb)) {
        for stages in 1..=instance.stages_max(work.cin) {
            let shared_bytes = instance.shared_bytes(stages);
            if shared_bytes > device.shared_bytes as usize {
                break;
            }
            let cycles = instance.cycles(stages, work, device);
            if best.is_none_or(|(least, _)| cycles < least) {
                best = Some((cycles, Choice { instance: *instance, stages, shared_bytes }));
            }
        }
    }
    best.map(|(_, choice)| choice)
}

/// What is said where [`choose`] finds nothing.
#[must_use]
pub fn none_fits(driver: &Arc<dyn Driver>, what: &str) -> DeviceError {
    let device = driver.description();
    DeviceError::Failed {
        device: device.name.clone(),
        doing: format!("choosing a kernel for a {what}"),
        reason: format!("{} bytes of shared memory are too few for any", device.shared_bytes),
    }
}

impl Choice {
    /// Starts it over a picture of `size`, with `depth` blocks behind each tile.
    ///
    /// # Errors
    /// As [`Driver::launch`].
    pub fn launch(
        &self,
        driver: &Arc<dyn Driver>,
        size: [usize; 2],
        depth: usize,
        params: &[u8],
    ) -> Result<(), DeviceError> {
        driver.launch(&self.launch_of(size, depth, params))
    }

    /// The launch that [`Self::launch`] starts.
    #[must_use]
    pub fn launch_of<'a>(&self, size: [usize; 2], depth: usize, params: &'a [u8]) -> Launch<'a> {
        let [across, down] = self.instance.tiles(size);
        Launch {
            kernel: self.instance.name,
            grid: [across, down, depth as u32],
            block: [self.instance.threads(), 1, 1],
            shared_bytes: self.shared_bytes as u32,
            params,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_list_is_read() {
        // `flow` and `fusion` make the names of these from shapes; tests run each of them.
        let named_elsewhere = ["STAGE", "STAGE_CONV", "DECONV_FUSION"];
        let list = include_str!("../../../kernels/instances.h");
        let entries =
            list.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
        for line in entries {
            let word = line.split('(').next().unwrap();
            let read = parse(line).is_some();
            assert_ne!(read, named_elsewhere.contains(&word), "{line}");
        }
        let mut names: Vec<_> = all().iter().map(|it| it.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len(), "each name once");
    }

    #[test]
    fn an_instance_fits_the_least_device_with_one_stage() {
        // Those with groups are a choice beside others.
        for instance in all().into_iter().filter(|it| it.groups == 1) {
            assert!(instance.shared_bytes(1) <= 64 << 10, "{} on sm_75", instance.name);
        }
    }
}
