//! The few vector operations that the CPU kernels are written in, and their AVX2, AVX-512 and portable forms.
//!
//! Every kernel is generic over [`Simd`] and always inlined into an entry function that enables the instruction
//! set (`instructions.rs`), so that one text gives all forms.
#![expect(
    unsafe_code,
    reason = "vector instructions and raw rows; each caller checks shapes first"
)]

/// A piece of work compiled as a function of its own for an instruction set: small functions compile fast and well.
pub(super) trait Work<S: Simd> {
    /// Does it.
    ///
    /// # Safety
    /// The instruction set of `S` is enabled; the rest is told by the implementation.
    unsafe fn run(self);
}

/// A vector of `f32` lanes.
///
/// # Safety
/// Every method needs the instruction set of its implementation; pointers must be valid for `LANES` elements
/// (no alignment needed).
pub(super) trait Simd: Copy + Send + Sync + 'static {
    /// The vector type.
    type V: Copy;
    /// Lanes of a vector.
    const LANES: usize;
    /// Most pixels of a register tile whose rows are 1, 2 and 3 vectors wide.
    const TILE_PX: [usize; 3];
    /// The 8-lane form for kernels that work on records of 8 values.
    type Eight: Halves;

    /// Runs `work` as a function of its own with the instruction set enabled.
    unsafe fn outline(work: impl Work<Self>);
    /// All lanes `value`.
    unsafe fn splat(value: f32) -> Self::V;
    /// The two values at `ptr`, over and over.
    unsafe fn splat_pair(ptr: *const f32) -> Self::V;
    /// Stores the `LANES / 2` sums of neighboring lanes.
    unsafe fn store_neighbors(ptr: *mut f32, v: Self::V);
    /// Loads `LANES` values.
    unsafe fn load(ptr: *const f32) -> Self::V;
    /// Stores `LANES` values.
    unsafe fn store(ptr: *mut f32, v: Self::V);
    /// Asks for what is at `ptr`, which need not be valid, to be brought into the cache.
    unsafe fn prefetch(ptr: *const f32);
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, in one rounding where the set has it.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Larger of each lane; the second where either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// Smaller of each lane; the second where either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Writes the lanes, cut to whole numbers, to `ptr`; lanes must lie in 0..2^31. Returns them as floats.
    unsafe fn truncate(v: Self::V, ptr: *mut i32) -> Self::V;
    /// `a / b`.
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// 2 to the power of lanes that hold whole numbers in -126..=127.
    unsafe fn power_of_two(v: Self::V) -> Self::V;
}

/// 8 lanes, seen as two halves of four: a pair of positions with four flows each.
///
/// # Safety
/// As for [`Simd`].
pub(super) trait Halves: Simd {
    /// Four values at `ptr`, zeros behind.
    unsafe fn load_half(ptr: *const f32) -> Self::V;
    /// Four values at `a`, then four at `b`.
    unsafe fn load_halves(a: *const f32, b: *const f32) -> Self::V;
    /// Stores past the caches, at a multiple of 32 bytes.
    unsafe fn stream(ptr: *mut f32, v: Self::V);
    /// Makes what was streamed visible to other threads with the next stores.
    unsafe fn end_streams();
    /// As [`Simd::truncate`], but what is written is times `factors`.
    unsafe fn truncate_times(v: Self::V, factors: &[i32; 8], ptr: *mut i32) -> Self::V;
}

/// Plain arrays that the compiler may vectorise for any processor.
#[derive(Clone, Copy)]
pub(super) struct Portable<const N: usize>;

/// Applies `f` to each lane.
#[inline(always)]
fn lanes<const N: usize>(f: impl Fn(usize) -> f32) -> [f32; N] {
    let mut out = [0.0; N];
    for (i, lane) in out.iter_mut().enumerate() {
        *lane = f(i);
    }
    out
}

impl<const N: usize> Simd for Portable<N> {
    type V = [f32; N];
    const LANES: usize = N;
    const TILE_PX: [usize; 3] = [6, 3, 2];
    type Eight = Portable<8>;

    #[inline(never)]
    unsafe fn outline(work: impl Work<Self>) {
        // SAFETY: the caller's promise is the same.
        unsafe { work.run() }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        [value; N]
    }
    #[inline(always)]
    unsafe fn splat_pair(ptr: *const f32) -> Self::V {
        // SAFETY: the caller passes a pointer valid for two elements.
        let pair = unsafe { ptr.cast::<[f32; 2]>().read_unaligned() };
        lanes(|i| pair[i % 2])
    }
    #[inline(always)]
    unsafe fn store_neighbors(ptr: *mut f32, v: Self::V) {
        for i in 0..N / 2 {
            // SAFETY: the caller passes a pointer valid for N / 2 elements.
            unsafe { ptr.add(i).write(v[2 * i] + v[2 * i + 1]) };
        }
    }
    #[inline(always)]
    unsafe fn load(ptr: *const f32) -> Self::V {
        // SAFETY: the caller passes a pointer valid for N elements.
        unsafe { ptr.cast::<[f32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(ptr: *mut f32, v: Self::V) {
        // SAFETY: the caller passes a pointer valid for N elements.
        unsafe { ptr.cast::<[f32; N]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Without a fused instruction `f32::mul_add` would be a library call.
        if cfg!(target_arch = "aarch64") {
            lanes(|i| a[i].mul_add(b[i], c[i]))
        } else {
            lanes(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "cutting to whole numbers is the purpose")]
    #[expect(clippy::cast_precision_loss, reason = "picture coordinates are far below 2^24")]
    unsafe fn truncate(v: Self::V, ptr: *mut i32) -> Self::V {
        for (i, lane) in v.iter().enumerate() {
            // SAFETY: the caller passes a pointer valid for N elements.
            unsafe { ptr.add(i).write(*lane as i32) };
        }
        lanes(|i| (v[i] as i32) as f32)
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] / b[i])
    }
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "lanes hold small whole numbers")]
    unsafe fn power_of_two(v: Self::V) -> Self::V {
        lanes(|i| f32::from_bits(((v[i] as i32 + 127) << 23).cast_unsigned()))
    }
}

impl Halves for Portable<8> {
    #[inline(always)]
    unsafe fn load_half(ptr: *const f32) -> Self::V {
        // SAFETY: the caller passes a pointer valid for four elements.
        let [a, b, c, d] = unsafe { ptr.cast::<[f32; 4]>().read_unaligned() };
        [a, b, c, d, 0.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    unsafe fn load_halves(a: *const f32, b: *const f32) -> Self::V {
        // SAFETY: the caller passes pointers valid for four elements each.
        let [a, b] = unsafe { [a, b].map(|ptr| ptr.cast::<[f32; 4]>().read_unaligned()) };
        lanes(|i| if i < 4 { a[i] } else { b[i - 4] })
    }
    #[inline(always)]
    unsafe fn stream(ptr: *mut f32, v: Self::V) {
        // SAFETY: the caller's promise is the same.
        unsafe { Self::store(ptr, v) }
    }
    #[inline(always)]
    unsafe fn end_streams() {}
    #[inline(always)]
    unsafe fn truncate_times(v: Self::V, factors: &[i32; 8], ptr: *mut i32) -> Self::V {
        let mut whole = [0; 8];
        // SAFETY: eight elements for eight lanes; the caller passes a pointer valid for as many.
        unsafe {
            let cut = Self::truncate(v, whole.as_mut_ptr());
            for (i, (whole, factor)) in whole.iter().zip(factors).enumerate() {
                ptr.add(i).write(whole * factor);
            }
            cut
        }
    }
}

/// 8 lanes of AVX2 with FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// 16 lanes of AVX-512F.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512;

/// Stores the sums of neighboring lanes of 8 or 16.
#[cfg(target_arch = "x86_64")]
macro_rules! store_neighbors {
    (8, $ptr:expr, $v:expr) => {{
        // Never a hot path: what sums in pairs has 16 lanes.
        let mut lanes = [0.0; 8];
        x86::_mm256_storeu_ps(lanes.as_mut_ptr(), $v);
        for (i, [a, b]) in lanes.as_chunks::<2>().0.iter().enumerate() {
            $ptr.add(i).write(a + b);
        }
    }};
    (16, $ptr:expr, $v:expr) => {{
        let even = x86::_mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 14, 12, 10, 8, 6, 4, 2, 0);
        let odd = x86::_mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 15, 13, 11, 9, 7, 5, 3, 1);
        let half = |order| x86::_mm512_castps512_ps256(x86::_mm512_permutexvar_ps(order, $v));
        x86::_mm256_storeu_ps($ptr, x86::_mm256_add_ps(half(even), half(odd)));
    }};
}

#[cfg(target_arch = "x86_64")]
macro_rules! x86_simd {
    ($name:ident, $features:literal, $vector:ty, $lanes:tt, $tile:expr, $eight:ty,
     $splat:ident $load:ident $store:ident $add:ident $sub:ident $mul:ident $fma:ident $max:ident $min:ident
     $to_int:ident $to_float:ident $store_int:ident $div:ident
     $shift:ident $as_float:ident $splat_int:ident $add_int:ident $splat_pair:ident $as_single:ident) => {
        impl Simd for $name {
            type V = $vector;
            const LANES: usize = $lanes;
            const TILE_PX: [usize; 3] = $tile;
            type Eight = $eight;

            #[inline(always)]
            unsafe fn outline(work: impl Work<Self>) {
                #[target_feature(enable = $features)]
                #[inline(never)]
                unsafe fn enabled(work: impl Work<$name>) {
                    // SAFETY: the set is enabled here; the rest is the caller's promise.
                    unsafe { work.run() }
                }
                // SAFETY: the caller runs with the instruction set enabled.
                unsafe { enabled(work) }
            }
            #[inline(always)]
            unsafe fn splat(value: f32) -> Self::V {
                // SAFETY: the caller runs with the instruction set enabled.
                unsafe { x86::$splat(value) }
            }
            #[inline(always)]
            unsafe fn splat_pair(ptr: *const f32) -> Self::V {
                // SAFETY: as above; the pointer is valid for two elements.
                unsafe { x86::$as_single(x86::$splat_pair(ptr.cast::<f64>().read_unaligned())) }
            }
            #[inline(always)]
            unsafe fn store_neighbors(ptr: *mut f32, v: Self::V) {
                // SAFETY: as above; the pointer is valid for half the lanes.
                unsafe { store_neighbors!($lanes, ptr, v) }
            }
            #[inline(always)]
            unsafe fn load(ptr: *const f32) -> Self::V {
                // SAFETY: as above; the pointer is valid for all lanes.
                unsafe { x86::$load(ptr) }
            }
            #[inline(always)]
            unsafe fn store(ptr: *mut f32, v: Self::V) {
                // SAFETY: as above; the pointer is valid for all lanes.
                unsafe { x86::$store(ptr, v) }
            }
            #[inline(always)]
            unsafe fn prefetch(ptr: *const f32) {
                // SAFETY: every processor with vectors has this instruction; it never faults.
                unsafe { x86::_mm_prefetch::<{ x86::_MM_HINT_T0 }>(ptr.cast()) }
            }
            #[inline(always)]
            unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
                // SAFETY: the caller runs with the instruction set enabled.
                unsafe { x86::$add(a, b) }
            }
            #[inline(always)]
            unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
                // SAFETY: the caller runs with the instruction set enabled.
                unsafe { x86::$sub(a, b) }
            }
            #[inline(always)]
            unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
                // SAFETY: the caller runs with the instruction set enabled.
                unsafe { x86::$mul(a, b) }
            }
            #[inline(always)]
            unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
                // SAFETY: the caller runs with the instruction set enabled.
                unsafe { x86::$fma(a, b, c) }
            }
            #[inline(always)]
            unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
                // SAFETY: the caller runs with the instruction set enabled.
                unsafe { x86::$max(a, b) }
            }
            #[inline(always)]
            unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
                // SAFETY: the caller runs with the instruction set enabled.
                unsafe { x86::$min(a, b) }
            }
            #[inline(always)]
            unsafe fn truncate(v: Self::V, ptr: *mut i32) -> Self::V {
                // SAFETY: the caller runs with the instruction set enabled.
                let whole = unsafe { x86::$to_int(v) };
                // SAFETY: as above; the pointer is valid for all lanes.
                unsafe { x86::$store_int(ptr.cast(), whole) };
                // SAFETY: the caller runs with the instruction set enabled.
                unsafe { x86::$to_float(whole) }
            }
            #[inline(always)]
            unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
                // SAFETY: the caller runs with the instruction set enabled.
                unsafe { x86::$div(a, b) }
            }
            #[inline(always)]
            unsafe fn power_of_two(v: Self::V) -> Self::V {
                // SAFETY: the caller runs with the instruction set enabled.
                unsafe {
                    let exponent = x86::$add_int(x86::$to_int(v), x86::$splat_int(127));
                    x86::$as_float(x86::$shift::<23>(exponent))
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as x86;

// 16 registers: 12 or fewer accumulators, up to 3 vectors of weights, one broadcast value.
#[cfg(target_arch = "x86_64")]
x86_simd!(Avx2, "avx2,fma", x86::__m256, 8, [10, 6, 4], Self,
    _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps _mm256_sub_ps _mm256_mul_ps _mm256_fmadd_ps
    _mm256_max_ps _mm256_min_ps _mm256_cvttps_epi32 _mm256_cvtepi32_ps _mm256_storeu_si256 _mm256_div_ps
    _mm256_slli_epi32 _mm256_castsi256_ps _mm256_set1_epi32 _mm256_add_epi32 _mm256_set1_pd _mm256_castpd_ps);

// 32 registers; the broadcast is an operand of the multiplication.
#[cfg(target_arch = "x86_64")]
x86_simd!(Avx512, "avx512f,avx2,fma", x86::__m512, 16, [12, 12, 8], Avx2,
    _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps _mm512_sub_ps _mm512_mul_ps _mm512_fmadd_ps
    _mm512_max_ps _mm512_min_ps _mm512_cvttps_epi32 _mm512_cvtepi32_ps _mm512_storeu_si512 _mm512_div_ps
    _mm512_slli_epi32 _mm512_castsi512_ps _mm512_set1_epi32 _mm512_add_epi32 _mm512_set1_pd _mm512_castpd_ps);

#[cfg(target_arch = "x86_64")]
impl Halves for Avx2 {
    #[inline(always)]
    unsafe fn load_half(ptr: *const f32) -> Self::V {
        // SAFETY: the caller runs with the instruction set enabled; the pointer is valid for four elements.
        unsafe { x86::_mm256_zextps128_ps256(x86::_mm_loadu_ps(ptr)) }
    }
    #[inline(always)]
    unsafe fn load_halves(a: *const f32, b: *const f32) -> Self::V {
        // SAFETY: as above, of both pointers.
        unsafe { x86::_mm256_loadu2_m128(b, a) }
    }
    #[inline(always)]
    unsafe fn stream(ptr: *mut f32, v: Self::V) {
        // SAFETY: as above; the pointer is aligned.
        unsafe { x86::_mm256_stream_ps(ptr, v) }
    }
    #[inline(always)]
    unsafe fn end_streams() {
        // SAFETY: every processor with vectors has this instruction.
        unsafe { x86::_mm_sfence() }
    }
    #[inline(always)]
    unsafe fn truncate_times(v: Self::V, factors: &[i32; 8], ptr: *mut i32) -> Self::V {
        // SAFETY: the caller runs with the instruction set enabled; the pointer is valid for all lanes.
        unsafe {
            let whole = x86::_mm256_cvttps_epi32(v);
            let factors = x86::_mm256_loadu_si256(factors.as_ptr().cast());
            x86::_mm256_storeu_si256(ptr.cast(), x86::_mm256_mullo_epi32(whole, factors));
            x86::_mm256_cvtepi32_ps(whole)
        }
    }
}
