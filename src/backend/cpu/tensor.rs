//! Pictures of `f32` in memory as the CPU kernels want them: NHWC, channels padded to 8, a border of zeros.

use crate::ops::tensor::Shape;

/// `[h, w, stride]` values with one zero pixel around, so that a 3x3 window never leaves the memory.
///
/// Channels `c..stride` are padding; kernels write zeros there.
#[derive(Clone, Debug, Default)]
pub struct Tensor {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels in use.
    pub c: usize,
    /// Values from one pixel to the next: `c` rounded up to 8.
    pub stride: usize,
    data: Vec<f32>,
    /// Values before the first: it lies at the start of a line of the cache, so that no pixel of 8 channels lies in two.
    start: usize,
}

impl Shape for Tensor {
    fn shape(&self) -> [usize; 3] {
        [self.h, self.w, self.c]
    }
}

/// Values behind the last pixel that a vector store of the last channels may touch.
const SLACK: usize = 16;
/// Values of a line of the cache.
const LINE: usize = 16;

impl Tensor {
    /// A tensor of zeros.
    #[must_use]
    pub fn zeros(h: usize, w: usize, c: usize) -> Self {
        let mut made = Self::default();
        made.resize(h, w, c);
        made
    }

    /// Makes it `[h, w, c]`, keeping the memory where it suffices. The border is zero, the rest is arbitrary.
    pub fn resize(&mut self, h: usize, w: usize, c: usize) {
        let stride = c.next_multiple_of(8);
        if (h, w, c) == (self.h, self.w, self.c) {
            return;
        }
        (self.h, self.w, self.c, self.stride) = (h, w, c, stride);
        self.data.clear();
        self.data.resize((h + 2) * (w + 2) * stride + SLACK + LINE, 0.0);
        self.start = self.data.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    }

    /// Values, wherever they begin.
    fn len(&self) -> usize {
        self.data.len().saturating_sub(LINE)
    }

    /// Values from one row to the next.
    #[must_use]
    pub fn row_stride(&self) -> usize {
        (self.w + 2) * self.stride
    }

    /// Where pixel (`y`, `x`) begins in [`Self::values`]; both count from the first pixel inside the border.
    #[must_use]
    pub fn at(&self, y: usize, x: usize) -> usize {
        (y + 1) * self.row_stride() + (x + 1) * self.stride
    }

    /// All values, border included.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.data[self.start..self.start + self.len()]
    }

    /// All values, border included; the border must stay zero.
    #[must_use]
    pub fn values_mut(&mut self) -> &mut [f32] {
        let len = self.len();
        &mut self.data[self.start..self.start + len]
    }
}
