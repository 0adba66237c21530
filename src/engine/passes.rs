//! Makes each picture several times, of the pair run backwards and turned upside down as well, and takes the mean.
//!
//! A network errs otherwise on the same motion where it sees it otherwise, and the mean errs less. Source: geometric
//! self-ensemble of B. Lim, S. Son, H. Kim, S. Nah, K. M. Lee: Enhanced Deep Residual Networks for Single Image
//! Super-Resolution, CVPRW 2017; programs that run RIFE call it test-time augmentation. The mean is taken of pictures and not
//! of flows: on Middlebury that gained as much or more, and needs nothing of the network.
//!
//! Turned by 180 degrees a plane is itself in reverse, so that no format needs a case of its own. Of an odd side with
//! chroma at half the size, chroma lies a pixel off while a frame is turned: in both frames and the picture alike.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::settings::PASSES;
use crate::engine::{
    Ahead, EngineDescription, EngineError, Interpolator, MemoryGauge, Scorer, TellChange,
    common_format,
};
use crate::frame::{Depth, Frame, Picture, Sample};

/// Frames of which the turned picture is kept: those of a pair, and one for callers that go back a frame.
const FRAMES_KEPT: usize = 3;

/// Frames of which an engine must keep what it computed, so that no pass computes it anew: both of a pair, each also
/// turned.
pub const RECORDS: usize = 4;

/// How a pass sees a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct View {
    backwards: bool,
    turned: bool,
}

/// The first of these are taken. Backwards comes second: its frames are those of the first pass.
const VIEWS: [View; 4] = [
    View { backwards: false, turned: false },
    View { backwards: true, turned: false },
    View { backwards: false, turned: true },
    View { backwards: true, turned: true },
];

const _: () = assert!(PASSES[PASSES.len() - 1] as usize == VIEWS.len());

/// An engine each of whose pictures is the mean of several of another's.
pub struct Passes {
    engine: Box<dyn Interpolator>,
    views: &'static [View],
    turned: VecDeque<Turned>,
    /// Pictures that were asked for ahead and not yet collected.
    asked: usize,
    depth: usize,
}

/// A frame upside down.
struct Turned {
    index: u64,
    picture: Arc<Picture>,
    frame: Frame,
}

impl Passes {
    /// `passes` of [`PASSES`] over `engine`, which is the same engine where that is 1.
    ///
    /// # Panics
    /// If `passes` is none of those.
    #[must_use]
    pub fn over(engine: Box<dyn Interpolator>, passes: u32) -> Box<dyn Interpolator> {
        assert!(PASSES.contains(&passes), "{passes} passes");
        if passes == 1 {
            return engine;
        }
        let views = &VIEWS[..passes as usize];
        let mut made = Self { engine, views, turned: VecDeque::new(), asked: 0, depth: 0 };
        made.look_at_depth();
        Box::new(made)
    }

    /// The engine may have become another.
    fn look_at_depth(&mut self) {
        let depth = self.engine.ahead().map_or(0, |ahead| ahead.depth());
        self.depth = depth.div_ceil(self.views.len());
    }

    fn inner(&mut self) -> &mut dyn Ahead {
        let Some(ahead) = self.engine.ahead() else {
            unreachable!("only an engine that works ahead is asked ahead")
        };
        ahead
    }

    /// The frame as a view has it. Both forms have a number of their own, by which the engine knows them again.
    fn frame(&mut self, frame: &Frame, view: View) -> Frame {
        let index = 2 * frame.index + u64::from(view.turned);
        if !view.turned {
            return Frame { index, ..frame.clone() };
        }
        let same =
            |it: &&Turned| it.index == frame.index && Arc::ptr_eq(&it.picture, &frame.picture);
        if let Some(found) = self.turned.iter().find(same) {
            return found.frame.clone();
        }
        let picture = Arc::new(turned(&frame.picture));
        let made = Frame { index, picture, ..frame.clone() };
        self.turned.truncate(FRAMES_KEPT - 1);
        let picture = Arc::clone(&frame.picture);
        self.turned.push_front(Turned { index: frame.index, picture, frame: made.clone() });
        made
    }

    fn pair(&mut self, img0: &Frame, img1: &Frame, view: View) -> [Frame; 2] {
        let [first, second] = [self.frame(img0, view), self.frame(img1, view)];
        if view.backwards { [second, first] } else { [first, second] }
    }

    fn next_picture(&mut self) -> Result<Picture, EngineError> {
        assert!(self.asked > 0, "a picture is collected after it was asked for");
        let views = self.views.iter();
        let pictures = views.map(|_| self.inner().collect()).collect::<Result<Vec<_>, _>>()?;
        self.asked -= 1;
        Ok(mean(&pictures, self.views))
    }
}

impl View {
    fn timestep(self, timestep: f32) -> f32 {
        if self.backwards { 1.0 - timestep } else { timestep }
    }
}

impl Ahead for Passes {
    fn depth(&self) -> usize {
        self.depth
    }

    fn waiting(&self) -> usize {
        self.asked
    }

    fn submit(&mut self, img0: &Frame, img1: &Frame, timesteps: &[f32]) -> Result<(), EngineError> {
        common_format(img0, img1)?;
        for &timestep in timesteps {
            for &view in self.views {
                let [first, second] = self.pair(img0, img1, view);
                let submitted = self.inner().submit(&first, &second, &[view.timestep(timestep)]);
                submitted.inspect_err(|_| self.asked = 0)?;
            }
            self.asked += 1;
        }
        self.look_at_depth();
        Ok(())
    }

    fn collect(&mut self) -> Result<Picture, EngineError> {
        self.next_picture().inspect_err(|_| self.asked = 0)
    }
}

impl Interpolator for Passes {
    fn interpolate(
        &mut self,
        img0: &Frame,
        img1: &Frame,
        timesteps: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        common_format(img0, img1)?;
        // What a former caller asked for and did not collect is the engine's to forget.
        self.asked = 0;
        let mut made = vec![];
        for &timestep in timesteps {
            let mut pictures = vec![];
            for &view in self.views {
                let [first, second] = self.pair(img0, img1, view);
                let timestep = view.timestep(timestep);
                pictures.extend(self.engine.interpolate(&first, &second, &[timestep])?);
            }
            made.push(mean(&pictures, self.views));
        }
        Ok(made)
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        if self.engine.ahead().is_some() { Some(self) } else { None }
    }

    fn scorer(&mut self) -> Option<&mut dyn Scorer> {
        self.engine.scorer()
    }

    fn memory_gauge(&self) -> Option<MemoryGauge> {
        self.engine.memory_gauge()
    }

    fn tell_changes(&mut self, tell: Box<TellChange>) {
        self.engine.tell_changes(tell);
    }

    fn description(&self) -> EngineDescription {
        self.engine.description()
    }
}

/// The picture upside down and mirrored.
fn turned(picture: &Picture) -> Picture {
    let plane = |plane: &Vec<u8>| match picture.format.depth {
        Depth::Eight => plane.iter().rev().copied().collect(),
        Depth::Ten | Depth::Twelve => {
            <[u8; 2]>::of(plane).iter().rev().flatten().copied().collect()
        }
    };
    Picture { format: picture.format, planes: picture.planes.iter().map(plane).collect() }
}

/// The mean of pictures of one format, each as its view has it.
fn mean(pictures: &[Picture], views: &[View]) -> Picture {
    let mut made = Picture::zeroed(pictures[0].format);
    for (index, out) in made.planes.iter_mut().enumerate() {
        let planes = pictures.iter().map(|picture| picture.planes[index].as_slice());
        let planes: Vec<_> = planes.zip(views.iter().copied()).collect();
        match pictures[0].format.depth {
            Depth::Eight => mean_plane::<u8>(&planes, out),
            Depth::Ten | Depth::Twelve => mean_plane::<[u8; 2]>(&planes, out),
        }
    }
    made
}

/// Samples summed at a time, so that the sums stay in the nearest cache.
const CHUNK: usize = 2048;

/// Of a power of two planes; four codes of 12 bits are below 2^14. Halves go to the even code: always up, made pictures would
/// be brighter than those beside them by an eighth of a code or more.
fn mean_plane<S: Sample>(planes: &[(&[u8], View)], out: &mut [u8]) {
    let count = planes.len() as u16;
    let shift = count.trailing_zeros();
    let mut sums = [0_u16; CHUNK];
    for (number, out) in S::of_mut(out).chunks_mut(CHUNK).enumerate() {
        sums.fill(0);
        for (plane, view) in planes {
            let (samples, from) = (S::of(plane), number * CHUNK);
            if view.turned {
                let reversed = samples[..samples.len() - from].iter().rev();
                sums.iter_mut().zip(reversed).for_each(|(sum, it)| *sum += it.code());
            } else {
                sums.iter_mut().zip(&samples[from..]).for_each(|(sum, it)| *sum += it.code());
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            let (down, rest) = (sum >> shift, sum & (count - 1));
            let up = 2 * rest + (down & 1) > count;
            *out = S::from_code(down + u16::from(up));
        }
    }
}

#[cfg(test)]
mod tests;
