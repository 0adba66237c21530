//! The compiled kernels in this program: which there are, which one a device can run, what each one uses.
//!
//! The build script (`build/`) compiles `kernels/*.cu` and embeds the images. Machine code is for one compute capability
//! and those of the same major number after it; PTX is for chips that come later, whose driver compiles it at start.

use std::fmt;

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.bin"));

/// The oldest driver that can run the kernels, as its users know it.
pub const MINIMUM_DRIVER: &str = "535";

/// The same as the driver gives it: `cuDriverGetVersion`, 1000 times major and 10 times minor of its CUDA version.
pub const MINIMUM_DRIVER_CUDA: u32 = 12_020;

/// Compute capability of a device: major, minor.
pub type Capability = (u32, u32);

/// What a source was compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Machine code, which runs on this capability and later ones of the same major number.
    Cubin(Capability),
    /// PTX, which the driver compiles for this capability and all later ones.
    Ptx(Capability),
}

impl Target {
    /// Whether a device of the capability can run it.
    #[must_use]
    pub fn runs_on(self, device: Capability) -> bool {
        match self {
            Self::Cubin(own) => own.0 == device.0 && own.1 <= device.1,
            Self::Ptx(own) => own <= device,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cubin((major, minor)) => write!(f, "sm_{major}{minor}"),
            Self::Ptx((major, minor)) => write!(f, "compute_{major}{minor}"),
        }
    }
}

/// One compiled source, ready for `cuModuleLoadData`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What it was compiled for.
    pub target: Target,
    /// Machine code as an ELF file, or PTX as text that ends in a zero byte.
    pub bytes: Vec<u8>,
}

/// What one kernel uses on one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Its source: `conv` is `kernels/conv.cu`.
    pub source: &'static str,
    /// Its name.
    pub kernel: &'static str,
    /// What it was compiled for; machine code only.
    pub target: Target,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of registers that are spilled to memory, stores and loads, counted once each in the code.
    pub spill_bytes: u32,
    /// Local memory of a thread, in bytes.
    pub stack_bytes: u32,
    /// Static shared memory of a block, in bytes.
    pub shared_bytes: u32,
}

/// One compressed image in [`BYTES`].
struct Packed {
    source: &'static str,
    target: Target,
    start: usize,
    end: usize,
    image_bytes: usize,
}

/// Whether the kernels are in this program.
///
/// # Errors
/// Where they are not: why, and how to get a program that has them.
pub fn built() -> Result<(), &'static str> {
    match MISSING {
        Some(reason) => Err(reason),
        None if IMAGES.is_empty() => Err("there was no source in kernels/ when slomod was built"),
        None => Ok(()),
    }
}

/// Name and version of the compiler; empty where there are no kernels.
#[must_use]
pub fn compiler() -> &'static str {
    COMPILER
}

/// All sources, sorted.
#[must_use]
pub fn sources() -> Vec<&'static str> {
    distinct(IMAGES.iter().map(|it| it.source))
}

/// All targets, sorted: machine code by capability, then PTX.
#[must_use]
pub fn targets() -> Vec<Target> {
    distinct(IMAGES.iter().map(|it| it.target))
}

/// What every kernel uses, by source and target.
#[must_use]
pub fn resources() -> &'static [Resources] {
    RESOURCES
}

/// The image of `kernels/{source}.cu` for a device: its own machine code, else the nearest older one of the same major
/// number, else PTX. `None` where the device is too old or there is no such source.
///
/// # Panics
/// If the embedded image is damaged.
#[must_use]
pub fn image_for(device: Capability, source: &str) -> Option<Image> {
    let target = best_target(&targets(), device)?;
    IMAGES.iter().find(|it| it.source == source && it.target == target).map(unpack)
}

fn best_target(targets: &[Target], device: Capability) -> Option<Target> {
    targets.iter().copied().filter(|it| it.runs_on(device)).max_by_key(|it| preference(*it))
}

/// Machine code before PTX, which takes the driver a while; then the nearest.
fn preference(target: Target) -> (u32, Capability) {
    match target {
        Target::Ptx(own) => (0, own),
        Target::Cubin(own) => (1, own),
    }
}

fn unpack(packed: &Packed) -> Image {
    let packed_bytes = &BYTES[packed.start..packed.end];
    let bytes = zstd::bulk::decompress(packed_bytes, packed.image_bytes).unwrap_or_default();
    assert!(
        bytes.len() == packed.image_bytes,
        "the embedded kernels of {} for {} are damaged: this program's file is not as it was built",
        packed.source,
        packed.target
    );
    Image { target: packed.target, bytes }
}

fn distinct<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &[Target] = &[
        Target::Cubin((7, 5)),
        Target::Cubin((8, 0)),
        Target::Cubin((8, 6)),
        Target::Cubin((8, 9)),
        Target::Cubin((9, 0)),
        Target::Cubin((10, 0)),
        Target::Cubin((12, 0)),
        Target::Ptx((12, 0)),
    ];

    #[test]
    fn every_listed_chip_takes_its_own_machine_code() {
        for target in TARGETS.iter().filter(|it| matches!(it, Target::Cubin(_))) {
            let Target::Cubin(device) = *target else { continue };
            assert_eq!(best_target(TARGETS, device), Some(*target));
        }
    }

    #[test]
    fn a_chip_between_takes_the_nearest_older_code_of_its_major_number() {
        for (device, expected) in [((8, 7), (8, 6)), ((10, 3), (10, 0)), ((12, 1), (12, 0))] {
            assert_eq!(best_target(TARGETS, device), Some(Target::Cubin(expected)));
        }
    }

    #[test]
    fn a_later_major_number_takes_ptx_and_an_older_chip_nothing() {
        assert_eq!(best_target(TARGETS, (13, 0)), Some(Target::Ptx((12, 0))));
        assert_eq!(best_target(TARGETS, (7, 0)), None);
        assert_eq!(best_target(TARGETS, (11, 0)), None, "PTX of 12.0 is too new for it");
    }

    #[test]
    fn every_embedded_image_is_whole_and_for_its_target() {
        if let Err(reason) = built() {
            println!("skipped: {reason}");
            return;
        }
        for packed in IMAGES {
            let image = unpack(packed);
            match packed.target {
                // EM_CUDA is 190; the capability is the second byte of the ELF flags.
                Target::Cubin((major, minor)) => {
                    assert_eq!(&image.bytes[..4], b"\x7fELF", "{}", packed.source);
                    assert_eq!(image.bytes[18], 190, "{}", packed.source);
                    let flags = u32::from_le_bytes(image.bytes[48..52].try_into().unwrap());
                    let capability = 10 * major + minor;
                    assert!(flags & 0xff == capability || flags >> 8 & 0xff == capability);
                }
                Target::Ptx((major, minor)) => {
                    let text = std::str::from_utf8(&image.bytes).unwrap();
                    assert!(text.contains(&format!(".target sm_{major}{minor}\n")));
                    assert!(text.ends_with('\0'), "{}: the driver takes a C string", packed.source);
                }
            }
        }
    }

    #[test]
    fn every_source_has_an_image_for_every_target_and_no_other() {
        assert_eq!(IMAGES.len(), sources().len() * targets().len());
        assert_eq!(image_for((9, 0), "no such source"), None);
    }
}
