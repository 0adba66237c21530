//! What a steady engine does when its device fails: nothing missing, nothing twice, in order.

use std::sync::Arc;

use super::*;
use crate::engine::blend::Blend;
use crate::frame::{Chroma, Depth, Matrix, Range, Seconds};

/// Blends, works ahead, and fails at its nth picture.
struct Failing {
    left: usize,
    error: DeviceError,
    made: VecDeque<Picture>,
}

impl Ahead for Failing {
    fn depth(&self) -> usize {
        3
    }

    fn waiting(&self) -> usize {
        self.made.len()
    }

    fn submit(&mut self, a: &Frame, b: &Frame, t: &[f32]) -> Result<(), EngineError> {
        self.made.extend(Blend.interpolate(a, b, t)?);
        Ok(())
    }

    fn collect(&mut self) -> Result<Picture, EngineError> {
        if self.left == 0 {
            self.made.clear();
            return Err(self.error.clone().into());
        }
        self.left -= 1;
        Ok(self.made.pop_front().unwrap())
    }
}

impl Interpolator for Failing {
    fn interpolate(
        &mut self,
        _: &Frame,
        _: &Frame,
        _: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        panic!("asked ahead")
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        Some(self)
    }

    fn description(&self) -> EngineDescription {
        Blend.description()
    }
}

fn crowded() -> DeviceError {
    DeviceError::OutOfMemory { device: "gpu".into(), wanted_bytes: 2, free_bytes: 1 }
}

fn lost() -> DeviceError {
    let (doing, reason) = ("a launch".into(), "gone".into());
    DeviceError::Lost { device: "gpu".into(), doing, reason }
}

fn failing(left: usize, error: DeviceError) -> Box<dyn Interpolator> {
    Box::new(Failing { left, error, made: VecDeque::new() })
}

fn rung(cure: Cure, step: &'static str, engine: fn() -> Box<dyn Interpolator>) -> Rung {
    Rung { cure, step, wants: None, make: Box::new(move |_, _| Ok(engine())) }
}

fn frames() -> Vec<Frame> {
    let (chroma, matrix, range) = (Chroma::Gray, Matrix::Bt709, Range::Full);
    let format =
        PictureFormat { width_px: 2, height_px: 1, chroma, matrix, range, depth: Depth::Eight };
    let one = |index: u8| Frame {
        index: u64::from(index),
        pts: Seconds::from_integer(i128::from(index)),
        duration: None,
        picture: Arc::new(Picture { format, planes: vec![vec![20 * index, 7 * index]] }),
        alpha: None,
    };
    (0..8).map(one).collect()
}

/// All pictures asked for at once, then collected.
fn pictures(engine: &mut Steady) -> Result<Vec<Picture>, EngineError> {
    for pair in frames().windows(2) {
        engine.submit(&pair[0], &pair[1], &[0.25, 0.75])?;
    }
    (0..engine.waiting()).map(|_| engine.collect()).collect()
}

fn expected() -> Vec<Picture> {
    let frames = frames();
    let pairs = frames.windows(2);
    pairs.flat_map(|it| Blend.interpolate(&it[0], &it[1], &[0.25, 0.75]).unwrap()).collect()
}

/// V24.
#[test]
fn no_picture_is_lost_or_changed_on_the_way_down() {
    let rungs = vec![
        rung(Cure::Memory, "smaller batches", || failing(2, crowded())),
        rung(Cure::Memory, "a lower flow scale", || failing(4, lost())),
        rung(Cure::Memory, "never taken: the device is gone", || failing(9, lost())),
        rung(Cure::Any, "the CPU", || Box::new(Blend)),
    ];
    let mut engine = Steady::new(failing(3, crowded()), rungs);
    let (tell, told) = std::sync::mpsc::channel();
    engine.tell_changes(Box::new(move |now| tell.send(now.steps.len()).unwrap()));
    assert_eq!(pictures(&mut engine).unwrap(), expected());
    let steps = engine.description().steps;
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 2, 3], "told at each step");
    assert_eq!(steps.len(), 3, "{steps:?}");
    assert!(steps[0].ends_with("smaller batches") && steps[2].ends_with("the CPU"), "{steps:?}");
    assert!(steps[2].contains("lost"), "{steps:?}");
}

#[test]
fn the_last_failure_is_told_and_nothing_waits_after_it() {
    let rungs = vec![rung(Cure::Memory, "smaller batches", || failing(1, crowded()))];
    let mut engine = Steady::new(failing(3, lost()), rungs);
    let error = pictures(&mut engine).unwrap_err();
    assert!(matches!(error, EngineError::Device(DeviceError::Lost { .. })), "{error}");
    assert_eq!(engine.waiting(), 0);
}

/// Compares nothing, on a device with room for it or without, and is lost when it is asked for the result.
struct Careless {
    room: bool,
}

impl Scorer for Careless {
    fn start(&mut self, _: &Picture, _: &[&Picture]) -> Result<bool, EngineError> {
        Ok(self.room)
    }

    fn finish(&mut self) -> Result<Option<Vec<Measures>>, EngineError> {
        Err(lost().into())
    }
}

impl Interpolator for Careless {
    fn interpolate(
        &mut self,
        a: &Frame,
        b: &Frame,
        t: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        Blend.interpolate(a, b, t)
    }

    fn scorer(&mut self) -> Option<&mut dyn Scorer> {
        Some(self)
    }

    fn description(&self) -> EngineDescription {
        Blend.description()
    }
}

#[test]
fn a_comparison_lost_with_its_device_is_said_to_be_lost() {
    let picture = &frames()[0].picture;
    let rungs = vec![rung(Cure::Any, "the CPU", || Box::new(Blend))];
    let mut engine = Steady::new(Box::new(Careless { room: true }), rungs);
    // Nothing else is asked for: the comparison alone tells the next engine its format.
    assert!(engine.scorer().unwrap().start(picture, &[picture]).unwrap());
    assert_eq!(Scorer::finish(&mut engine).unwrap(), None);
    assert_eq!(engine.description().steps.len(), 1);
    assert!(engine.scorer().is_none(), "the CPU leaves it to its caller");
    let mut engine = Steady::new(Box::new(Careless { room: true }), vec![]);
    assert!(Scorer::start(&mut engine, picture, &[picture]).unwrap());
    assert!(matches!(Scorer::finish(&mut engine), Err(EngineError::Device(_))));
}

#[test]
fn frames_are_scored_on_the_device_only_where_the_reserve_stays_free() {
    let (frames, picture) = (frames(), Picture::clone(&frames()[0].picture));
    // Of 10 bytes that the engine takes it has 2; 5 for scores, and a reserve of 1.
    for (free_bytes, room, fits) in [(14, true, true), (13, true, false), (14, false, false)] {
        let wants = needing(10).unwrap();
        let (free, allocated) = (Box::new(move || Ok(free_bytes)), Box::new(|| 2));
        let scores = Box::new(|_| 5);
        let device = "gpu".to_owned();
        let room_of = Room { device, free, allocated, wants, scores, reserve_bytes: 1 };
        let mut engine = Steady::new(Box::new(Careless { room }), vec![]).within(room_of);
        engine.interpolate(&frames[0], &frames[1], &[0.5]).unwrap();
        for _ in 0..2 {
            assert_eq!(Scorer::start(&mut engine, &picture, &[&picture]).unwrap(), fits);
        }
        let steps = engine.description().steps;
        assert_eq!(steps.len(), usize::from(!fits), "{steps:?}");
        assert!(steps.iter().all(|step| step.ends_with(SCORES_STEP)), "{steps:?}");
    }
}

fn needing(peak_bytes: u64) -> Option<Box<Wants>> {
    Some(Box::new(move |_| Some(Need { weights_bytes: 2, peak_bytes })))
}

/// An engine that wants 10 bytes, rungs that want the others, on a device with `free_bytes` beside the weights.
fn within(free_bytes: u64, rungs: &[u64]) -> Steady {
    let working = || failing(100, lost());
    let rung = |&bytes: &u64| Rung { wants: needing(bytes), ..rung(Cure::Memory, "less", working) };
    let room = Room {
        device: "gpu".into(),
        free: Box::new(move || Ok(free_bytes)),
        allocated: Box::new(|| 2),
        wants: needing(10).unwrap(),
        scores: Box::new(|_| 5),
        reserve_bytes: 1,
    };
    Steady::new(working(), rungs.iter().map(rung).collect()).within(room)
}

#[test]
fn what_does_not_fit_is_not_tried() {
    // Two bytes are the engine's already.
    let mut engine = within(9, &[8, 4]);
    assert_eq!(pictures(&mut engine).unwrap(), expected());
    assert_eq!(engine.description().steps.len(), 0);
    // Eight would leave no reserve, and as much as the first is no help.
    let mut engine = within(8, &[10, 8, 4]);
    assert_eq!(pictures(&mut engine).unwrap(), expected());
    let steps = engine.description().steps;
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(steps[0].contains("10 bytes") && steps[0].ends_with("less"), "{steps:?}");
    assert_eq!(engine.rungs.len(), 0);
}

/// A clip whose second format comes while little was allocated for the first.
#[test]
fn a_former_format_that_took_less_than_was_planned_for_it_frees_no_more() {
    // Ten bytes of either format, of which the engine has two: eight more and the reserve must be free.
    for (free_bytes, steps) in [(9, 0), (8, 1)] {
        let mut engine = within(9, &[4]);
        pictures(&mut engine).unwrap();
        engine.room.as_mut().unwrap().free = Box::new(move || Ok(free_bytes));
        let mut pair = [frames()[0].clone(), frames()[1].clone()];
        for frame in &mut pair {
            let format = PictureFormat { width_px: 1, ..frame.picture.format };
            frame.picture = Arc::new(Picture { format, planes: vec![vec![7]] });
        }
        engine.submit(&pair[0], &pair[1], &[0.5]).unwrap();
        engine.collect().unwrap();
        assert_eq!(engine.description().steps.len(), steps, "{free_bytes} bytes");
    }
}

#[test]
fn where_nothing_fits_the_error_says_what_is_wanted() {
    let error = pictures(&mut within(3, &[8, 4])).unwrap_err().to_string();
    assert!(error.contains("10 bytes") && error.contains("5 are free"), "{error}");
    // The last may use the reserve.
    assert_eq!(pictures(&mut within(4, &[8, 4])).unwrap(), expected());
}
