//! Pictures of 7680x4320, whole and of tiles: that they are made, how fast, in how much memory, and how far they are apart.

use std::sync::Arc;
use std::time::Instant;

use num_rational::Ratio;
use serde_json::json;
use slomod::backend::cuda::driver::Driver;
use slomod::config::settings::Scale;
use slomod::engine::Interpolator;
use slomod::engine::ladder::{Ladder, Limits, PLANS, Plan};
use slomod::engine::open::open_weights;
use slomod::engine::rife::Origin;
use slomod::frame::{Frame, Picture};
use slomod::models::rife_v4::Network;

use super::clip::{Apart, Differences, PSNR_MIN_DB};
use super::device;
use super::networks::{self, Kind};
use super::rows::Rows;

const SIZE: (usize, usize) = (7680, 4320);
/// Of a rehearsal, what its tiles have beyond their cores, which is less so that there are tiles at all, and what they must
/// have in common then.
const REHEARSED_SIZE: (usize, usize) = (128, 96);
const REHEARSED_MARGIN_PX: usize = 16;
const REHEARSED_LEAST_DB: f64 = 30.0;
/// The flow scale of `auto` at this size, and the least.
const SCALE: f32 = 0.25;
/// Pairs, of which the first takes the memory and is not timed.
const PAIRS: usize = 3;
const REHEARSED_PAIRS: usize = 2;
/// Tiles that a picture is made of; the last of each keep no features.
const TILES: [[usize; 2]; 3] = [[1, 1], [2, 2], [4, 4]];
const REHEARSED_TILES: [[usize; 2]; 3] = [[1, 1], [2, 1], [3, 2]];
/// Steps of the texture between two frames: the picture between them is known.
const STEPS: usize = 2;
/// How far below the network's own error what tiles change must stay, as in `tests/network.rs`: half of its power.
const BELOW_OWN_ERROR_DB: f64 = 3.0;

/// One picture at a time, by so many tiles.
fn plans() -> impl Iterator<Item = &'static Plan> {
    let one = |tiles| PLANS.iter().find(move |plan| plan.batch == 1 && plan.tiles == tiles);
    let all = if device::rehearsal() { REHEARSED_TILES } else { TILES };
    all.into_iter().map(move |tiles| one(tiles).expect("a plan of the ladder"))
}

/// The built-in weights, whose tiles are compared with the whole picture, and a network of random weights, whose flows reach
/// anywhere, for time and memory.
pub fn large(kind: &Kind, rows: &mut Rows) {
    let ((width, height), pairs) =
        if device::rehearsal() { (REHEARSED_SIZE, REHEARSED_PAIRS) } else { (SIZE, PAIRS) };
    let shown = |shift| networks::picture(width, height, shift);
    let frames: Vec<Frame> = (0..=pairs).map(|at| frame(at, shown(STEPS * at))).collect();
    let truths: Vec<Picture> = (0..pairs).map(|at| shown(STEPS * at + STEPS / 2)).collect();
    println!("| network | picture | a second | MB | counted MB | from whole dB | from truth dB |");
    println!("|---|---|---|---|---|---|---|");
    let mut whole: Vec<Picture> = vec![];
    for plan in plans() {
        let network = Network::read(&open_weights(None).unwrap()).unwrap();
        let made = make(network, plan, &frames);
        let own = apart(&made.pictures, &truths);
        let change = (!whole.is_empty()).then(|| apart(&made.pictures, &whole));
        tell("built-in weights", plan, &made, change, Some(own), rows);
        match change {
            None => whole = made.pictures,
            Some(change) => {
                let below_own = apart(&whole, &truths).psnr_db + BELOW_OWN_ERROR_DB;
                let least = if device::rehearsal() {
                    REHEARSED_LEAST_DB
                } else {
                    PSNR_MIN_DB.min(below_own)
                };
                assert!(change.psnr_db >= least, "tiles {:?}: {change:?}", plan.tiles);
            }
        }
    }
    for plan in plans() {
        tell(kind.name, plan, &make(networks::network(kind), plan, &frames), None, None, rows);
    }
}

fn frame(index: usize, picture: Picture) -> Frame {
    let pts = Ratio::from_integer(index as i128);
    Frame { index: index as u64, pts, duration: None, picture: Arc::new(picture), alpha: None }
}

/// Pictures of all pairs, and what they took.
struct Made {
    pictures: Vec<Picture>,
    fps: f64,
    peak_bytes: u64,
    counted_bytes: u64,
}

fn make(network: Network, plan: &Plan, frames: &[Frame]) -> Made {
    let mut limits = Limits::default();
    if device::rehearsal() {
        limits.margin_px = REHEARSED_MARGIN_PX;
    }
    let device = device::open();
    let driver: Arc<dyn Driver> = device.clone();
    let format = frames[0].picture.format;
    let ladder = Ladder::new(network, Scale::Fixed(SCALE), Origin::default(), limits);
    let counted_bytes = ladder.need(device.description(), plan, format).unwrap().peak_bytes;
    let mut engine = ladder.planned(&driver, plan, format).unwrap();
    let mut pictures = pictures_of(&mut *engine, &frames[..2]);
    let start = Instant::now();
    pictures.extend(pictures_of(&mut *engine, &frames[1..]));
    let fps = (frames.len() - 2) as f64 / start.elapsed().as_secs_f64();
    let peak_bytes = device.peak_bytes();
    assert!(peak_bytes <= counted_bytes, "{peak_bytes} bytes, {counted_bytes} were counted");
    Made { pictures, fps, peak_bytes, counted_bytes }
}

fn pictures_of(engine: &mut dyn Interpolator, frames: &[Frame]) -> Vec<Picture> {
    let ahead = engine.ahead().expect("a GPU works ahead");
    for pair in frames.windows(2) {
        ahead.submit(&pair[0], &pair[1], &[0.5]).unwrap();
    }
    (1..frames.len()).map(|_| ahead.collect().unwrap()).collect()
}

fn apart(a: &[Picture], b: &[Picture]) -> Apart {
    assert_eq!(a.len(), b.len());
    let mut differences = Differences::default();
    a.iter().zip(b).for_each(|(a, b)| differences.add(a, b));
    differences.apart()
}

fn tell(
    network: &str,
    plan: &Plan,
    made: &Made,
    change: Option<Apart>,
    own: Option<Apart>,
    rows: &mut Rows,
) {
    let [long, short] = plan.tiles;
    let picture = if long * short == 1 { "whole".into() } else { format!("{long}x{short} tiles") };
    let Made { fps, peak_bytes, counted_bytes, pictures } = made;
    let (change, own) = (change.map(|it| it.psnr_db), own.map(|it| it.psnr_db));
    let shown = |db: Option<f64>| db.map_or("-".to_owned(), |it| format!("{it:.1}"));
    println!(
        "| {network} | {picture} | {fps:.1} | {} | {} | {} | {} |",
        peak_bytes / 1_000_000,
        counted_bytes / 1_000_000,
        shown(change),
        shown(own),
    );
    let format = pictures[0].format;
    rows.push(json!({
        "network": network, "size": format!("{}x{}", format.width_px, format.height_px), "tiles": plan.tiles,
        "fps": fps, "peak_bytes": peak_bytes, "counted_bytes": counted_bytes,
        "psnr_from_whole_db": change, "psnr_from_truth_db": own,
    }));
}
