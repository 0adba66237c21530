//! The value all ops work on: one image of f32 channels, NHWC with n = 1.

/// What all layouts of a tensor tell: a backend may keep its own.
pub trait Shape {
    /// Rows, columns, channels in use.
    fn shape(&self) -> [usize; 3];
}

impl Shape for Tensor {
    fn shape(&self) -> [usize; 3] {
        [self.h, self.w, self.c]
    }
}

/// `[h, w, c]`, row-major, channels innermost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// `h * w * c` values.
    pub data: Vec<f32>,
}

impl Tensor {
    /// All zero.
    #[must_use]
    pub fn zeros(h: usize, w: usize, c: usize) -> Self {
        Self { h, w, c, data: vec![0.0; h * w * c] }
    }

    /// Takes that shape, keeping the allocation where it is large enough. The content is unspecified afterwards.
    pub fn reshape(&mut self, h: usize, w: usize, c: usize) {
        (self.h, self.w, self.c) = (h, w, c);
        self.data.resize(h * w * c, 0.0);
    }

    /// The channels at a row and column.
    #[must_use]
    pub fn at(&self, y: usize, x: usize) -> &[f32] {
        let start = (y * self.w + x) * self.c;
        &self.data[start..start + self.c]
    }

    /// The channels at a row and column, to write.
    pub fn at_mut(&mut self, y: usize, x: usize) -> &mut [f32] {
        let start = (y * self.w + x) * self.c;
        &mut self.data[start..start + self.c]
    }

    /// From PyTorch's order: `[c, h, w]`.
    ///
    /// # Panics
    /// If `values` does not hold `c * h * w` values.
    #[must_use]
    pub fn from_chw(values: &[f32], c: usize, h: usize, w: usize) -> Self {
        assert_eq!(values.len(), c * h * w, "values of [{c}, {h}, {w}]");
        let mut tensor = Self::zeros(h, w, c);
        for (channel, plane) in values.chunks_exact((h * w).max(1)).enumerate() {
            for (at, value) in plane.iter().enumerate() {
                tensor.data[at * c + channel] = *value;
            }
        }
        tensor
    }

    /// A copy of `count` channels from `first` on; none at all makes a tensor without values.
    #[must_use]
    pub fn channels(&self, first: usize, count: usize) -> Self {
        let mut part = Self::zeros(self.h, self.w, count);
        if count == 0 {
            return part;
        }
        for (to, from) in part.data.chunks_exact_mut(count).zip(self.data.chunks_exact(self.c)) {
            to.copy_from_slice(&from[first..first + count]);
        }
        part
    }
}
