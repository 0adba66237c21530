//! Chooses the instruction set at run time, and the entry functions compiled for each.
#![expect(
    unsafe_code,
    reason = "entry functions enable an instruction set that was found at run time"
)]

use std::ops::Range;

use super::conv::ConvJob;
use super::deconv::DeconvJob;
use super::fusion::FusionJob;
use super::head::HeadJob;
use super::narrow::NarrowJob;
use super::refine::SumsJob;
use super::simd;
use super::stage::StageJob;
use super::winograd::WinogradJob;

/// Name of the environment variable that forces an instruction set, for tests and diagnosis.
pub const INSTRUCTIONS_VARIABLE: &str = "SLOMOD_CPU_INSTRUCTIONS";

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// Whatever the target guarantees; vectors by the compiler.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512F.
    Avx512,
    /// The portable code with the shape of AVX-512, to test the logic of 16 lanes anywhere.
    PortableWide,
}

impl Instructions {
    /// Those this processor runs, best first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 && is_x86_feature_detected!("avx512f") {
                found.push(Self::Avx512);
            }
            if avx2 {
                found.push(Self::Avx2);
            }
        }
        found.push(Self::Portable);
        found
    }

    /// As in [`INSTRUCTIONS_VARIABLE`] and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::PortableWide => "portable-wide",
        }
    }

    /// The best available, or the one that `wished` names.
    ///
    /// # Errors
    /// What was wished for and what there is, where it is not available.
    pub fn choose(wished: Option<&str>) -> Result<Self, String> {
        let found = Self::available();
        let Some(wished) = wished else { return Ok(found[0]) };
        found.iter().copied().find(|it| it.name() == wished).ok_or_else(|| {
            let names: Vec<_> = found.iter().map(|it| it.name()).collect();
            format!(
                "instructions `{wished}` are not available here; there are {}",
                names.join(", ")
            )
        })
    }

    /// Vector width in values.
    #[must_use]
    pub fn lanes(self) -> usize {
        match self {
            Self::Portable | Self::Avx2 => 8,
            Self::Avx512 | Self::PortableWide => 16,
        }
    }

    /// The entry functions.
    pub(super) fn kernels(self) -> Kernels {
        match self {
            Self::Portable => portable::KERNELS,
            Self::PortableWide => portable_wide::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::KERNELS,
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => unreachable!("`choose` offers what the processor has"),
        }
    }
}

/// Entry functions of one instruction set. Calling one needs that set, and what its generic function asks for.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    pub conv: unsafe fn(&ConvJob<'_>, Range<usize>, Range<usize>),
    pub deconv: unsafe fn(&DeconvJob<'_>, Range<usize>, Range<usize>, &mut [f32]),
    pub stage_conv: unsafe fn(&StageJob<'_>, Range<usize>, Range<usize>, &mut [f32]),
    pub head: unsafe fn(&HeadJob<'_>, Range<usize>, Range<usize>, &mut [f32]),
    pub narrow: unsafe fn(&NarrowJob<'_>, Range<usize>, &mut [f32]),
    pub winograd: unsafe fn(&WinogradJob<'_>, Range<usize>, Range<usize>, &mut [f32]),
    pub fusion: unsafe fn(&FusionJob<'_>, Range<usize>, &mut [f32]),
    pub sums: unsafe fn(&SumsJob<'_>, Range<usize>, &mut [f32]),
}

macro_rules! entries {
    ($module:ident, $set:ty $(, $features:literal)?) => {
        mod $module {
            use super::*;

            pub(super) const KERNELS: Kernels =
                Kernels { conv, deconv, stage_conv, head, narrow, winograd, fusion, sums };

            $(#[target_feature(enable = $features)])?
            unsafe fn conv(job: &ConvJob<'_>, rows: Range<usize>, blocks: Range<usize>) {
                // SAFETY: the set is enabled here; the rest is the caller's promise.
                unsafe { super::super::conv::conv::<$set>(job, rows, blocks) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn deconv(
                job: &DeconvJob<'_>,
                rows: Range<usize>,
                columns: Range<usize>,
                scratch: &mut [f32],
            ) {
                // SAFETY: the set is enabled here; the rest is the caller's promise.
                unsafe { super::super::deconv::deconv::<$set>(job, rows, columns, scratch) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn stage_conv(
                job: &StageJob<'_>,
                rows: Range<usize>,
                columns: Range<usize>,
                scratch: &mut [f32],
            ) {
                // SAFETY: the set is enabled here; the rest is the caller's promise.
                unsafe { super::super::stage::stage_conv::<$set>(job, rows, columns, scratch) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn head(
                job: &HeadJob<'_>,
                rows: Range<usize>,
                columns: Range<usize>,
                scratch: &mut [f32],
            ) {
                // SAFETY: the set is enabled here; the rest is the caller's promise.
                unsafe { super::super::head::head::<$set>(job, rows, columns, scratch) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn narrow(job: &NarrowJob<'_>, lines: Range<usize>, scratch: &mut [f32]) {
                // SAFETY: the set is enabled here; the rest is the caller's promise.
                unsafe { super::super::narrow::narrow::<$set>(job, lines, scratch) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn winograd(
                job: &WinogradJob<'_>,
                tiles: Range<usize>,
                blocks: Range<usize>,
                scratch: &mut [f32],
            ) {
                // SAFETY: the set is enabled here; the rest is the caller's promise.
                unsafe { super::super::winograd::winograd::<$set>(job, tiles, blocks, scratch) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn fusion(job: &FusionJob<'_>, rows: Range<usize>, scratch: &mut [f32]) {
                // SAFETY: the set is enabled here; the rest is the caller's promise.
                unsafe { super::super::fusion::fusion::<$set>(job, rows, scratch) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn sums(job: &SumsJob<'_>, cells: Range<usize>, scratch: &mut [f32]) {
                // SAFETY: the set is enabled here; the rest is the caller's promise.
                unsafe { super::super::refine::sums::<$set>(job, cells, scratch) }
            }
        }
    };
}

entries!(portable, simd::Portable<8>);
entries!(portable_wide, simd::Portable<16>);
#[cfg(target_arch = "x86_64")]
entries!(avx2, simd::Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
entries!(avx512, simd::Avx512, "avx512f,avx2,fma");
