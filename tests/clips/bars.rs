//! Black bars: the network sees none, and they come out as they went in.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use slomod::engine::blend::Blend;
use slomod::engine::{EngineDescription, EngineError, Interpolator};
use slomod::frame::{Frame, Picture};
use slomod::pipeline::bars::Bars;
use slomod::pipeline::convert::convert;

use crate::{Place, decoded, schema, slow};

/// Numbers of frames, and the bars that they had.
type Seen = Arc<Mutex<Vec<(u64, Option<Bars>)>>>;

/// Blends, and remembers what it saw.
struct Witness(Seen);

impl Interpolator for Witness {
    fn interpolate(
        &mut self,
        a: &Frame,
        b: &Frame,
        t: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        let mut seen = self.0.lock().unwrap();
        [a, b].into_iter().for_each(|it| seen.push((it.index, Bars::of(&it.picture))));
        let mut made = Blend.interpolate(a, b, t)?;
        // As if motion beside the bars had bent into them.
        for plane in made.iter_mut().flat_map(|it| &mut it.planes) {
            plane.iter_mut().for_each(|it| *it = it.saturating_add(3));
        }
        Ok(made)
    }

    fn description(&self) -> EngineDescription {
        Blend.description()
    }
}

#[test]
fn the_network_sees_no_bars_and_they_stay_black() {
    let Some(place) = Place::new() else { return };
    for (filter, bars) in [
        ("pad=160:120:0:14", Bars { top: 14, bottom: 16, left: 0, right: 0 }),
        ("scale=120:120,pad=160:120:20:0", Bars { top: 0, bottom: 0, left: 20, right: 20 }),
    ] {
        let source = place.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s=160x90:r=10:d=1 -vf {filter} -pix_fmt yuv420p -c:v ffv1 in.mkv"
        ));
        let seen = Seen::default();
        let task = place.task(&source, "out.mkv", slow(2));
        let mut witness = Witness(Arc::clone(&seen));
        let stop = Arc::new(AtomicBool::new(false));
        let report = convert(&task, &mut witness, &stop, &mut |_| {}).unwrap();
        schema::valid(&report);
        let interpolation = report.interpolation.unwrap();
        assert_eq!(interpolation.black_bars, bars.reported());
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 18);
        assert!(seen.iter().all(|it| it.1 == Some(Bars::default())), "{seen:?}");
        for frame in decoded(&task.temporary) {
            assert_eq!(Bars::of(&frame.picture), Some(bars), "frame {}", frame.index);
        }
    }
}

#[test]
fn bars_that_are_no_more_are_no_bars() {
    let Some(place) = Place::new() else { return };
    // Black bars for half a second, then a picture that fills all.
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=160x120:r=10:d=1,drawbox=h=20:c=black:t=fill:enable='lt(t\\,0.5)' -pix_fmt yuv420p -c:v ffv1 in.mkv",
    );
    let seen = Seen::default();
    let task = place.task(&source, "out.mkv", slow(2));
    let mut witness = Witness(Arc::clone(&seen));
    let stop = Arc::new(AtomicBool::new(false));
    let report = convert(&task, &mut witness, &stop, &mut |_| {}).unwrap();
    schema::valid(&report);
    assert_eq!(report.interpolation.unwrap().black_bars, None);
    let seen = seen.lock().unwrap();
    let mut pictures = std::collections::BTreeMap::new();
    for (index, bars) in seen.iter() {
        let known = pictures.entry(*index).or_insert(*bars);
        assert_eq!(known, bars, "frames of one number are one picture to an engine");
    }
    let whole = decoded(&task.temporary);
    assert!(whole[0].picture == decoded(&source)[0].picture);
}
