//! Makes pictures from overlapping tiles, so that a device needs memory for a part of a picture at a time.
//!
//! The picture is divided into cores of equal size; a tile is a core and a margin on every side that lies within the
//! picture. Around each border between two cores, half a margin to either side, the tiles fade linearly into each other,
//! sample by sample in the picture's own planes. So a tile sees at least half a margin beyond what is used of it: content
//! that moves further than that between two frames is missing in one tile, and shows at the seam. Tiles begin at even
//! columns and rows, where samples of chroma begin.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::{Ahead, EngineDescription, EngineError, Interpolator, common_format};
use crate::frame::{Chroma, Depth, Frame, Picture, PictureFormat, Sample};

/// Margin of tiles for pictures that are too large for a device: motion of up to half of it leaves no seam.
pub const MARGIN_PX: usize = 192;

/// Frames of which the tiles are kept: those of a pair, and one for callers that go back a frame.
const FRAMES_KEPT: usize = 3;

/// How a picture is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Tiles side by side, at least 1; fewer where a core would be narrower than two margins.
    pub columns: usize,
    /// Tiles one above the other, at least 1; fewer as above.
    pub rows: usize,
    /// What a tile has beyond its core; an odd margin is one more.
    pub margin_px: usize,
}

impl Cut {
    /// Tiles of pictures of a format.
    #[must_use]
    pub fn count(&self, format: PictureFormat) -> usize {
        Grid::new(self, format).count()
    }
}

/// An engine that gets tiles and whose pictures are put together. Its own cache of frames serves each tile: tiles of a
/// frame count as frames, numbered by frame and tile.
pub struct Tiles {
    engine: Box<dyn Interpolator>,
    cut: Cut,
    frames: VecDeque<CutFrame>,
    /// What was asked of an engine that works ahead and not yet collected.
    asked: VecDeque<Grid>,
    depth: usize,
}

/// The tiles of a frame.
struct CutFrame {
    index: u64,
    picture: Arc<Picture>,
    tiles: Vec<Frame>,
}

impl Tiles {
    /// `engine` for tiles.
    #[must_use]
    pub fn new(mut engine: Box<dyn Interpolator>, cut: Cut) -> Self {
        let depth = engine.ahead().map_or(0, |ahead| ahead.depth());
        let tiles = (cut.columns * cut.rows).max(1);
        let (frames, asked) = (VecDeque::new(), VecDeque::new());
        Self { engine, cut, frames, asked, depth: depth.div_ceil(tiles) }
    }

    /// The tiles of both frames, in pairs.
    fn pairs(
        &mut self,
        img0: &Frame,
        img1: &Frame,
    ) -> Result<(Grid, Vec<[Frame; 2]>), EngineError> {
        let grid = Grid::new(&self.cut, common_format(img0, img1)?);
        let (first, second) = (self.tiles(&grid, img0), self.tiles(&grid, img1));
        Ok((grid, first.into_iter().zip(second).map(|(a, b)| [a, b]).collect()))
    }

    fn tiles(&mut self, grid: &Grid, frame: &Frame) -> Vec<Frame> {
        let same =
            |it: &&CutFrame| it.index == frame.index && Arc::ptr_eq(&it.picture, &frame.picture);
        if let Some(found) = self.frames.iter().find(same) {
            return found.tiles.clone();
        }
        let tile = |at: usize| Frame {
            index: frame.index * grid.count() as u64 + at as u64,
            picture: Arc::new(grid.tile(&frame.picture, at)),
            ..frame.clone()
        };
        let tiles: Vec<_> = (0..grid.count()).map(tile).collect();
        self.frames.truncate(FRAMES_KEPT - 1);
        let picture = Arc::clone(&frame.picture);
        self.frames.push_front(CutFrame { index: frame.index, picture, tiles: tiles.clone() });
        tiles
    }

    fn inner(&mut self) -> &mut dyn Ahead {
        let Some(ahead) = self.engine.ahead() else {
            unreachable!("only an engine that works ahead is asked ahead")
        };
        ahead
    }

    fn next_picture(&mut self) -> Result<Picture, EngineError> {
        let Some(grid) = self.asked.pop_front() else {
            panic!("a picture is collected after it was asked for")
        };
        let inner = self.inner();
        let tiles = (0..grid.count()).map(|_| inner.collect()).collect::<Result<Vec<_>, _>>()?;
        Ok(grid.join(&tiles))
    }
}

impl Ahead for Tiles {
    fn depth(&self) -> usize {
        self.depth
    }

    fn waiting(&self) -> usize {
        self.asked.len()
    }

    fn submit(&mut self, img0: &Frame, img1: &Frame, timesteps: &[f32]) -> Result<(), EngineError> {
        let (grid, pairs) = self.pairs(img0, img1)?;
        for &timestep in timesteps {
            for [first, second] in &pairs {
                let submitted = self.inner().submit(first, second, &[timestep]);
                submitted.inspect_err(|_| self.asked.clear())?;
            }
            self.asked.push_back(grid.clone());
        }
        Ok(())
    }

    fn collect(&mut self) -> Result<Picture, EngineError> {
        self.next_picture().inspect_err(|_| self.asked.clear())
    }
}

impl Interpolator for Tiles {
    fn interpolate(
        &mut self,
        img0: &Frame,
        img1: &Frame,
        timesteps: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        // What a former caller asked for and did not collect.
        while !self.asked.is_empty() {
            self.collect()?;
        }
        if self.engine.ahead().is_some() {
            self.submit(img0, img1, timesteps)?;
            return timesteps.iter().map(|_| self.collect()).collect();
        }
        let (grid, pairs) = self.pairs(img0, img1)?;
        let mut made = vec![];
        for &timestep in timesteps {
            let mut tiles = vec![];
            for [first, second] in &pairs {
                tiles.extend(self.engine.interpolate(first, second, &[timestep])?);
            }
            made.push(grid.join(&tiles));
        }
        Ok(made)
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        if self.engine.ahead().is_some() { Some(self) } else { None }
    }

    fn description(&self) -> EngineDescription {
        self.engine.description()
    }
}

/// Where the tiles of a picture lie.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grid {
    format: PictureFormat,
    across: Axis,
    down: Axis,
}

/// The tiles along one side, in pixels or in samples of a plane.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Axis {
    side: usize,
    starts: Vec<usize>,
    /// All tiles of one length, so that they need the same memory; of an odd side, the last is one shorter.
    length: usize,
    /// Borders between cores.
    borders: Vec<usize>,
    /// How far to either side of a border the tiles fade into each other.
    fade: usize,
}

impl Axis {
    fn new(side: usize, count: usize, margin: usize) -> Self {
        let (even_side, margin) = (side.next_multiple_of(2), margin.next_multiple_of(2));
        let count = count.clamp(1, (even_side / (2 * margin).max(2)).max(1));
        let border = |at: usize| at * (even_side / 2) / count * 2;
        let core = (0..count).map(|at| border(at + 1) - border(at)).max().unwrap_or(even_side);
        let length = (core + 2 * margin).min(even_side);
        let start = |at: usize| border(at).saturating_sub(margin).min(even_side - length);
        Self {
            side,
            starts: (0..count).map(start).collect(),
            length,
            borders: (1..count).map(border).collect(),
            fade: (margin / 2).next_multiple_of(2),
        }
    }

    /// The same in samples, one for each `step` pixels.
    fn sampled(&self, step: usize) -> Self {
        let parts = |values: &[usize]| values.iter().map(|it| it / step).collect();
        Self {
            side: self.side.div_ceil(step),
            starts: parts(&self.starts),
            length: self.length / step,
            borders: parts(&self.borders),
            fade: self.fade / step,
        }
    }

    fn end(&self, at: usize) -> usize {
        (self.starts[at] + self.length).min(self.side)
    }

    /// What of a tile is taken as it is.
    fn plain(&self, at: usize) -> std::ops::Range<usize> {
        let from = at.checked_sub(1).map_or(0, |before| self.borders[before] + self.fade);
        from..self.borders.get(at).map_or(self.side, |border| border - self.fade)
    }

    /// Where tile `at` fades into the next one.
    fn seam(&self, at: usize) -> std::ops::Range<usize> {
        self.borders[at] - self.fade..self.borders[at] + self.fade
    }
}

impl Grid {
    fn new(cut: &Cut, format: PictureFormat) -> Self {
        Self {
            format,
            across: Axis::new(format.width_px, cut.columns, cut.margin_px),
            down: Axis::new(format.height_px, cut.rows, cut.margin_px),
        }
    }

    fn count(&self) -> usize {
        self.across.starts.len() * self.down.starts.len()
    }

    /// Rows first: the tile's place along both sides.
    fn place(&self, at: usize) -> [usize; 2] {
        [at / self.across.starts.len(), at % self.across.starts.len()]
    }

    /// Both axes in the samples of a plane.
    fn plane(&self, index: usize) -> [Axis; 2] {
        let (down, across) = match (self.format.chroma, index) {
            (_, 0) | (Chroma::Gray | Chroma::C444 | Chroma::Gbr, _) => (1, 1),
            (Chroma::C422, _) => (1, 2),
            (Chroma::C420, _) => (2, 2),
        };
        [self.down.sampled(down), self.across.sampled(across)]
    }

    fn tile_format(&self, at: usize) -> PictureFormat {
        let [row, column] = self.place(at);
        PictureFormat {
            width_px: self.across.end(column) - self.across.starts[column],
            height_px: self.down.end(row) - self.down.starts[row],
            ..self.format
        }
    }

    fn tile(&self, picture: &Picture, at: usize) -> Picture {
        let [row, column] = self.place(at);
        let bytes = self.format.depth.bytes();
        let part = |(index, plane): (usize, &Vec<u8>)| {
            let [down, across] = self.plane(index);
            let mut samples = vec![];
            for y in down.starts[row]..down.end(row) {
                let line = &plane[bytes * y * across.side..bytes * (y + 1) * across.side];
                let columns = bytes * across.starts[column]..bytes * across.end(column);
                samples.extend_from_slice(&line[columns]);
            }
            samples
        };
        let planes = picture.planes.iter().enumerate().map(part).collect();
        Picture { format: self.tile_format(at), planes }
    }

    fn join(&self, tiles: &[Picture]) -> Picture {
        assert_eq!(tiles.len(), self.count(), "tiles of a picture");
        let plane = |index: usize| {
            let axes = self.plane(index);
            let planes: Vec<_> = tiles.iter().map(|tile| tile.planes[index].as_slice()).collect();
            match self.format.depth {
                Depth::Eight => join_plane::<u8>(&axes, &planes),
                Depth::Ten | Depth::Twelve => join_plane::<[u8; 2]>(&axes, &planes),
            }
        };
        let planes = (0..self.format.chroma.planes()).map(plane).collect();
        Picture { format: self.format, planes }
    }
}

/// A plane from those of the tiles.
fn join_plane<S: Sample>([down, across]: &[Axis; 2], tiles: &[&[u8]]) -> Vec<u8> {
    let columns = across.starts.len();
    let tiles: Vec<&[S]> = tiles.iter().map(|bytes| S::of(bytes)).collect();
    let mut bytes = vec![0; size_of::<S>() * across.side * down.side];
    let plane = S::of_mut(&mut bytes);
    let line = |row: usize, y: usize, to: &mut [S]| {
        join_line(across, to, |column| {
            let width = across.end(column) - across.starts[column];
            let from = (y - down.starts[row]) * width;
            &tiles[row * columns + column][from..from + width]
        });
    };
    for row in 0..down.starts.len() {
        for y in down.plain(row) {
            line(row, y, &mut plane[y * across.side..(y + 1) * across.side]);
        }
    }
    let mut below = vec![S::from_code(0); across.side];
    for row in 0..down.borders.len() {
        let seam = down.seam(row);
        for y in seam.clone() {
            let above = &mut plane[y * across.side..(y + 1) * across.side];
            line(row, y, above);
            line(row + 1, y, &mut below);
            let pairs = above.iter_mut().zip(&below);
            pairs.for_each(|(above, &below)| *above = faded(*above, below, y, &seam));
        }
    }
    bytes
}

/// A line of a plane from the same line of tiles side by side.
fn join_line<'a, S: Sample>(across: &Axis, to: &mut [S], tile: impl Fn(usize) -> &'a [S]) {
    for column in 0..across.starts.len() {
        let (plain, start) = (across.plain(column), across.starts[column]);
        let from = &tile(column)[plain.start - start..plain.end - start];
        to[plain].copy_from_slice(from);
    }
    for column in 0..across.borders.len() {
        let (left, right, seam) = (tile(column), tile(column + 1), across.seam(column));
        for x in seam.clone() {
            let samples = [left[x - across.starts[column]], right[x - across.starts[column + 1]]];
            to[x] = faded(samples[0], samples[1], x, &seam);
        }
    }
}

/// `first` at the beginning of a seam, `second` at its end; the same where both are the same.
fn faded<S: Sample>(first: S, second: S, at: usize, seam: &std::ops::Range<usize>) -> S {
    let whole = 2 * seam.len();
    let part = 2 * (at - seam.start) + 1;
    let sum = usize::from(first.code()) * (whole - part) + usize::from(second.code()) * part;
    S::from_code(((sum + whole / 2) / whole) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::blend::Blend;
    use crate::frame::{Matrix, Range, Seconds};

    fn frame(index: u64, format: PictureFormat) -> Frame {
        let mut picture = Picture::zeroed(format);
        for (number, plane) in picture.planes.iter_mut().enumerate() {
            for (at, sample) in plane.iter_mut().enumerate() {
                *sample = ((at + number) * (37 + index as usize) % 251) as u8;
            }
        }
        let pts = Seconds::from_integer(i128::from(index));
        Frame { index, pts, duration: None, picture: Arc::new(picture), alpha: None }
    }

    fn format(width_px: usize, height_px: usize, chroma: Chroma) -> PictureFormat {
        let (matrix, range) = (Matrix::Bt709, Range::Full);
        PictureFormat { width_px, height_px, chroma, matrix, range, depth: Depth::Eight }
    }

    #[test]
    fn tiles_of_an_engine_that_looks_at_one_pixel_make_the_very_same_picture() {
        let all = [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444, Chroma::Gbr];
        for chroma in all {
            for (width, height) in [(64, 48), (65, 47), (33, 90), (7, 1), (1, 3)] {
                for (columns, rows, margin_px) in
                    [(1, 1, 8), (2, 1, 8), (2, 2, 5), (3, 2, 2), (4, 4, 0)]
                {
                    let format = format(width, height, chroma);
                    let (a, b) = (frame(0, format), frame(1, format));
                    let cut = Cut { columns, rows, margin_px };
                    let mut tiles = Tiles::new(Box::new(Blend), cut);
                    let found = tiles.interpolate(&a, &b, &[0.25, 0.5]).unwrap();
                    let expected = Blend.interpolate(&a, &b, &[0.25, 0.5]).unwrap();
                    assert_eq!(found, expected, "{format:?} {cut:?}");
                }
            }
        }
    }

    #[test]
    fn tiles_are_of_one_size_and_reach_a_margin_beyond_their_cores() {
        let axis = Axis::new(1001, 3, 32);
        assert_eq!((axis.borders.as_slice(), axis.length), ([334, 668].as_slice(), 398));
        assert_eq!(axis.starts, [0, 302, 604]);
        assert_eq!([axis.end(0), axis.end(1), axis.end(2)], [398, 700, 1001]);
        assert_eq!(axis.seam(0), 318..350);
        let narrow = Axis::new(100, 9, 32);
        assert_eq!(narrow.starts, [0], "a core is two margins wide at least");
    }

    #[test]
    fn a_seam_goes_from_one_tile_to_the_other_in_even_steps() {
        let seam = 10..14;
        let line: Vec<_> = seam.clone().map(|at| faded(0, 240, at, &seam)).collect();
        assert_eq!(line, [30, 90, 150, 210]);
        assert!((0..=255).all(|it| faded(it, it, 12, &seam) == it));
    }

    #[test]
    fn frames_that_differ_in_size_are_refused() {
        let (a, b) = (format(8, 8, Chroma::Gray), format(8, 6, Chroma::Gray));
        let cut = Cut { columns: 2, rows: 2, margin_px: 2 };
        let mut tiles = Tiles::new(Box::new(Blend), cut);
        let error = tiles.interpolate(&frame(0, a), &frame(1, b), &[0.5]).unwrap_err();
        assert!(matches!(error, EngineError::FormatChanged { first: 0, second: 1 }), "{error}");
    }
}
