//! Passes over an engine whose pictures are known.

use std::sync::Mutex;

use num_rational::Ratio;

use super::*;
use crate::frame::{Chroma, Matrix, PictureFormat, Range};

/// What an engine was asked for: both frames and the time.
type Asked = Arc<Mutex<Vec<([Frame; 2], f32)>>>;

/// An engine whose pictures are the first frame, and in the first sample of each plane [`WRONG`] more.
struct Wrong {
    asked: Asked,
    queue: VecDeque<Picture>,
    depth: usize,
}

const WRONG: u16 = 8;

impl Wrong {
    fn engine(depth: usize) -> (Asked, Box<dyn Interpolator>) {
        let asked = Asked::default();
        (Arc::clone(&asked), Box::new(Self { asked, queue: VecDeque::new(), depth }))
    }
}

impl Ahead for Wrong {
    fn depth(&self) -> usize {
        self.depth
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn submit(&mut self, img0: &Frame, img1: &Frame, timesteps: &[f32]) -> Result<(), EngineError> {
        for &timestep in timesteps {
            self.asked.lock().unwrap().push(([img0.clone(), img1.clone()], timestep));
            let mut codes = codes(&img0.picture);
            codes.iter_mut().for_each(|plane| plane[0] += WRONG);
            self.queue.push_back(picture(img0.picture.format, &codes));
        }
        Ok(())
    }

    fn collect(&mut self) -> Result<Picture, EngineError> {
        Ok(self.queue.pop_front().unwrap())
    }
}

impl Interpolator for Wrong {
    fn interpolate(
        &mut self,
        img0: &Frame,
        img1: &Frame,
        timesteps: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        self.queue.clear();
        self.submit(img0, img1, timesteps)?;
        Ok(self.queue.drain(..).collect())
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        if self.depth > 0 { Some(self) } else { None }
    }

    fn description(&self) -> EngineDescription {
        crate::engine::blend::Blend.description()
    }
}

fn format(chroma: Chroma, depth: Depth) -> PictureFormat {
    let (matrix, range) = (Matrix::Bt709, Range::Full);
    PictureFormat { width_px: 5, height_px: 3, chroma, matrix, range, depth }
}

fn codes(picture: &Picture) -> Vec<Vec<u16>> {
    let plane = |plane: &Vec<u8>| match picture.format.depth {
        Depth::Eight => plane.iter().map(|it| it.code()).collect(),
        Depth::Ten | Depth::Twelve => <[u8; 2]>::of(plane).iter().map(|it| it.code()).collect(),
    };
    picture.planes.iter().map(plane).collect()
}

fn picture(format: PictureFormat, codes: &[Vec<u16>]) -> Picture {
    let plane = |codes: &Vec<u16>| match format.depth {
        Depth::Eight => codes.iter().map(|&it| it as u8).collect(),
        Depth::Ten | Depth::Twelve => codes.iter().flat_map(|it| it.to_le_bytes()).collect(),
    };
    Picture { format, planes: codes.iter().map(plane).collect() }
}

/// A frame no two samples of which are alike, nor like those of a frame of another index.
fn frame(index: u64, format: PictureFormat) -> Frame {
    let mut next = 40 * index as u16 * format.depth.steps();
    let mut plane = |index: usize| {
        let (columns, rows) = format.plane_size(index);
        (0..columns * rows).map(|_| (next += format.depth.steps(), next).1).collect()
    };
    let codes: Vec<_> = (0..format.chroma.planes()).map(&mut plane).collect();
    let pts = Ratio::from_integer(i128::from(index));
    let picture = Arc::new(picture(format, &codes));
    Frame { index, pts, duration: None, picture, alpha: None }
}

/// Two passes have the first frame, then the second; four the same with the wrong sample at the other end.
fn expected(passes: u32, [first, second]: [&Frame; 2]) -> Picture {
    let (firsts, seconds) = (codes(&first.picture), codes(&second.picture));
    let plane = |(first, second): (&Vec<u16>, &Vec<u16>)| {
        let sample = |at: usize| {
            let wrong = match (passes, at) {
                (2, 0) => f64::from(WRONG),
                (4, at) if at == 0 || at + 1 == first.len() => f64::from(WRONG) / 2.0,
                _ => 0.0,
            };
            ((f64::from(first[at]) + f64::from(second[at])) / 2.0 + wrong).round_ties_even() as u16
        };
        (0..first.len()).map(sample).collect()
    };
    picture(first.picture.format, &firsts.iter().zip(&seconds).map(plane).collect::<Vec<_>>())
}

#[test]
fn a_picture_is_the_mean_of_its_passes_which_lie_as_the_frames_do() {
    for chroma in [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444, Chroma::Gbr] {
        for depth in [Depth::Eight, Depth::Ten, Depth::Twelve] {
            let format = format(chroma, depth);
            let (a, b) = (frame(1, format), frame(2, format));
            for passes in [2, 4] {
                let wanted = expected(passes, [&a, &b]);
                let mut engine = Passes::over(Wrong::engine(0).1, passes);
                assert!(engine.ahead().is_none());
                let made = engine.interpolate(&a, &b, &[0.25, 0.5]).unwrap();
                assert_eq!(made, [wanted.clone(), wanted.clone()], "{chroma:?} {depth:?} {passes}");
                let mut engine = Passes::over(Wrong::engine(8).1, passes);
                let ahead = engine.ahead().unwrap();
                ahead.submit(&a, &b, &[0.25, 0.5]).unwrap();
                assert_eq!((ahead.depth(), ahead.waiting()), (8 / passes as usize, 2));
                assert_eq!(ahead.collect().unwrap(), wanted, "{chroma:?} {depth:?} {passes}");
                assert_eq!(ahead.collect().unwrap(), wanted);
                assert_eq!(ahead.waiting(), 0);
            }
        }
    }
}

#[test]
fn a_pair_that_runs_backwards_is_asked_for_the_time_from_its_other_end() {
    let format = format(Chroma::C420, Depth::Eight);
    let (asked, engine) = Wrong::engine(0);
    let (a, b) = (frame(7, format), frame(8, format));
    Passes::over(engine, 4).interpolate(&a, &b, &[0.25]).unwrap();
    let asked = asked.lock().unwrap();
    let upright: Vec<_> = asked.iter().map(|(pair, t)| (pair[0].pts, pair[1].pts, *t)).collect();
    let (a, b) = (a.pts, b.pts);
    assert_eq!(upright, [(a, b, 0.25), (b, a, 0.75), (a, b, 0.25), (b, a, 0.75)]);
}

#[test]
fn one_pass_is_the_engine_itself() {
    let (asked, engine) = Wrong::engine(8);
    let format = format(Chroma::C420, Depth::Eight);
    let mut engine = Passes::over(engine, 1);
    engine.interpolate(&frame(7, format), &frame(8, format), &[0.5]).unwrap();
    assert_eq!(engine.ahead().unwrap().depth(), 8);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].0[0].index, 7);
}

#[test]
fn the_engine_knows_the_frames_of_all_passes_again() {
    let format = format(Chroma::C420, Depth::Ten);
    let (asked, engine) = Wrong::engine(0);
    let frames: Vec<_> = (0..4).map(|index| frame(index, format)).collect();
    let mut engine = Passes::over(engine, 4);
    for pair in frames.windows(2) {
        engine.interpolate(&pair[0], &pair[1], &[0.5]).unwrap();
    }
    let mut known: Vec<Frame> = vec![];
    for frame in asked.lock().unwrap().iter().flat_map(|(pair, _)| pair) {
        match known.iter().find(|it| it.index == frame.index) {
            Some(same) => assert!(Arc::ptr_eq(&same.picture, &frame.picture)),
            None => known.push(frame.clone()),
        }
    }
    assert_eq!(known.len(), 2 * frames.len());
}

#[test]
fn frames_of_two_formats_are_refused_by_their_own_numbers() {
    let (a, b) = (format(Chroma::C420, Depth::Eight), format(Chroma::C444, Depth::Eight));
    let mut engine = Passes::over(Wrong::engine(8).1, 2);
    let refused = engine.interpolate(&frame(7, a), &frame(8, b), &[0.5]);
    assert!(matches!(refused, Err(EngineError::FormatChanged { first: 7, second: 8 })));
    let refused = engine.ahead().unwrap().submit(&frame(7, a), &frame(8, b), &[0.5]);
    assert!(matches!(refused, Err(EngineError::FormatChanged { first: 7, second: 8 })));
}

#[test]
fn means_are_rounded_and_halves_go_to_the_even_code() {
    // Every sum, in more samples than are summed at a time.
    for passes in [2, 4] {
        let most = passes as usize * 255;
        let sums: Vec<usize> = (0..5000).map(|at| at % (most + 1)).collect();
        let part = |pass: usize| -> Vec<u8> {
            sums.iter().map(|sum| (sum.saturating_sub(255 * pass)).min(255) as u8).collect()
        };
        let views = &VIEWS[..passes as usize];
        let planes: Vec<_> = views
            .iter()
            .enumerate()
            .map(|(pass, view)| {
                let mut plane = part(pass);
                if view.turned {
                    plane.reverse();
                }
                plane
            })
            .collect();
        let planes: Vec<_> = planes.iter().map(Vec::as_slice).zip(views.iter().copied()).collect();
        let mut out = vec![0; sums.len()];
        mean_plane::<u8>(&planes, &mut out);
        for (sum, found) in sums.iter().zip(out) {
            let exact = *sum as f64 / f64::from(passes);
            assert_eq!(f64::from(found), exact.round_ties_even(), "{sum} / {passes}");
        }
    }
}
