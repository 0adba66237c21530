//! Runs a conversion: decode, network and encode at the same time over bounded queues, then verification.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use num_rational::Ratio;

use crate::config::settings::{Codec, Container, Settings};
use crate::engine::Interpolator;
use crate::frame::{Frame, Picture, Rate, Seconds};
use crate::media;
use crate::media::MediaError;
use crate::media::clip::{ClipInfo, Verified, WriteSpec};
use crate::media::decode::Decoder;
use crate::media::sidecar::sidecar_path;
use crate::media::verify;
use crate::media::write::Writer;
use crate::pipeline::ahead::Asked;
use crate::pipeline::checks::{self, Written};
use crate::pipeline::fingerprint::Fingerprint;
use crate::pipeline::length;
use crate::pipeline::pace::Pace;
use crate::pipeline::parts::{self, Parts, State};
use crate::pipeline::plan::{self, Plan};
use crate::pipeline::resume::Resumed;
use crate::pipeline::scoring::{HeldOut, Scoring};
use crate::pipeline::stages::{self, DecodeEnd, Decoded, EncodeEnd, Outgoing, ToEncoder};
use crate::pipeline::summary::{self, Facts};
use crate::pipeline::tally::{Kind, Tally};
use crate::pipeline::timelapse;
use crate::pipeline::timeline::{Instant as Place, Passage, Shown, Stamp, Timeline};
use crate::pipeline::{ConvertError, Progress, Task};
use crate::report::Report;

/// Timesteps of a pair that the engine gets in one call at the most: bounds the memory of finished pictures.
const TIMESTEPS_AT_ONCE: usize = 4;
/// Output frames that wait for pictures at the most: bounds the memory of real frames behind them.
const LINE_LIMIT: usize = 64;
/// Rate assumed where a container gives none.
const FALLBACK_RATE: Rate = Ratio::new_raw(30, 1);
/// A last frame that claims to be shown this long or longer is damaged: it is shown as long as the one before.
const LAST_FRAME_S: i128 = 60;

/// Converts `task.source` into `task.temporary`, verifies it by decoding, and reports. Publishing (the rename to the
/// final name) is the caller's, and so is the removal of `task.parts`. On an error nothing is left at `task.temporary`;
/// in `task.parts`, where the task names such a folder, are the finished segments for the next try, unless the error
/// voids them.
///
/// # Errors
/// [`ConvertError`]; a report of the failure comes from [`failure_report`].
pub fn convert(
    task: &Task,
    engine: &mut dyn Interpolator,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, ConvertError> {
    let result = run(task, engine, stop, progress);
    if result.is_err() {
        // The writer removes its own file on most errors; what is left after verification is removed here.
        let _ = std::fs::remove_file(&task.temporary);
        let _ = std::fs::remove_file(sidecar_path(&task.temporary));
    }
    if let (Err(error), Some(folder)) = (&result, &task.parts)
        && voids_segments(error)
    {
        let _ = parts::remove(folder);
    }
    result
}

/// Whether another try must not begin with what this one made.
fn voids_segments(error: &ConvertError) -> bool {
    match error {
        ConvertError::Media(error) => matches!(error, MediaError::Unusable { .. }),
        ConvertError::SourceChanged { .. }
        | ConvertError::Verify { .. }
        | ConvertError::Settings(_) => true,
        ConvertError::Engine(_) | ConvertError::Interrupted => false,
    }
}

/// The report of a clip that failed or was refused.
#[must_use]
pub fn failure_report(task: &Task, error: &ConvertError) -> Report {
    summary::failure(task, error)
}

fn run(
    task: &Task,
    engine: &mut dyn Interpolator,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, ConvertError> {
    let clock = Instant::now();
    let started = crate::report::now_rfc3339();
    progress(&Progress { phase: "opening".into(), ..Progress::default() });
    media::init();
    let mut pace = Pace::default();
    let before = Fingerprint::take(&task.source, stop, &mut |step| {
        if pace.is_due() {
            progress(&Progress { phase: "opening".into(), step, ..Progress::default() });
        }
    })?;
    let decoder = Decoder::open_as(&task.source, task.settings.interlaced)?;
    let info = decoder.info().clone();
    length::check_header(&info, before.size_bytes)?;
    let by_name = timelapse::by_name(&info);
    timelapse::check(task, by_name.as_ref())?;
    let plan = plan::plan(&task.settings, info.video.rate.unwrap_or(FALLBACK_RATE))
        .map_err(ConvertError::Settings)?;
    let container = container(&task.settings, &task.output);

    let mut session = Session {
        task,
        info: &info,
        plan,
        container,
        asked: Asked::new(engine),
        line: VecDeque::new(),
        stop,
        progress,
        clock,
        pace,
        source: &before,
        resumed: Resumed::default(),
        laid_out: 0,
        tally: Tally::default(),
        scoring: Scoring::new(task.settings.quality_samples, info.video.frames_promised),
        shown: Seconds::default(),
    };
    let (decode_end, encode_end) = session.work(decoder)?;
    session.tally.lost_at_end(decode_end.lost_at_end);
    checks::complete(&task.source, &info, &decode_end.stats)?;
    let timelapse = by_name.or_else(|| timelapse::by_pictures(&info, decode_end.leaps));
    timelapse::check(task, timelapse.as_ref())?;
    let verified = session.verify()?;
    let after = Fingerprint::take(&task.source, stop, &mut |step| session.say("verifying", step))?;
    if !before.same_content(&after) {
        return Err(ConvertError::SourceChanged {
            path: task.source.clone(),
            before: before.sha256,
            after: after.sha256,
        });
    }
    let output =
        Fingerprint::take(&task.temporary, stop, &mut |step| session.say("verifying", step))?;
    let engine = session.resumed.engine(session.asked.description());
    Ok(summary::done(Facts {
        task,
        info: &info,
        plan,
        engine,
        frames_made: session.tally.total() - session.resumed.frames_out,
        resumed: session.resumed.list,
        network_busy: session.asked.busy(),
        network_frames: session.asked.pictures(),
        tally: session.tally,
        holdout: session.scoring.finish(),
        timelapse,
        decode: decode_end,
        encode: encode_end,
        verified,
        before: before.clone(),
        after,
        output,
        started,
        wall: clock.elapsed(),
    }))
}

/// The container: as configured, else by the output's extension, else by the codec.
fn container(settings: &Settings, output: &Path) -> Container {
    let by_codec =
        if settings.encoding.codec == Codec::Ffv1 { Container::Mkv } else { Container::Mp4 };
    settings.encoding.container.or(Container::of_name(output)).unwrap_or(by_codec)
}

/// The state of one conversion, on the network's thread.
pub(super) struct Session<'a> {
    pub(super) task: &'a Task,
    info: &'a ClipInfo,
    pub(super) source: &'a Fingerprint,
    plan: Plan,
    container: Container,
    pub(super) asked: Asked<'a>,
    line: VecDeque<InLine>,
    pub(super) stop: &'a Arc<AtomicBool>,
    progress: &'a mut dyn FnMut(&Progress),
    clock: Instant,
    pace: Pace,
    pub(super) resumed: Resumed,
    /// Output frames of the open segment.
    laid_out: u64,
    pub(super) tally: Tally,
    pub(super) scoring: Scoring,
    /// How long the newest output frame is shown.
    shown: Seconds,
}

/// What waits for its turn, in output order; its picture may still be in the network.
enum InLine {
    /// An output frame; without a picture, the engine's next one.
    Output { picture: Option<Arc<Picture>>, kind: Kind, pts: Seconds, duration: Seconds },
    /// The engine's next picture is a held-out frame.
    HeldOut(Box<HeldOut>),
}

/// The frames in view: the newest, and the one before it with the passage between them.
pub(super) struct View {
    pub(super) newest: Frame,
    before: Option<(Frame, Passage)>,
    /// Length of the last gap, for a last frame that carries no duration.
    gap: Option<Seconds>,
}

impl View {
    /// The view from the frame behind `passage`.
    pub(super) fn moved(self, next: Frame, passage: Passage) -> Self {
        let gap = Some(next.pts - self.newest.pts);
        Self { gap, before: Some((self.newest, passage)), newest: next }
    }
}

impl Session<'_> {
    fn work(&mut self, decoder: Decoder) -> Result<(DecodeEnd, EncodeEnd), ConvertError> {
        let (decoded_in, decoded_out) = sync_channel(stages::DECODED_QUEUE);
        let (encode_in, encode_out) = sync_channel(stages::ENCODE_QUEUE);
        std::thread::scope(|scope| {
            let decode = scope.spawn(move || stages::decode(decoder, &decoded_in));
            let mut encode_out = Some(encode_out);
            let mut encode = None;
            let result = self.frames(&decoded_out, &encode_in, |writer, parts| {
                let run = |queue| scope.spawn(move || stages::encode(parts, writer, &queue));
                encode = encode_out.take().map(run);
            });
            // Closing the queues ends both threads, whatever happened.
            drop((decoded_out, encode_in));
            let decode_end = join(decode);
            let encode_end = encode.map(join).transpose();
            // The encoder's own error is the cause of a queue that closed under the network.
            let encode_end = encode_end?.flatten();
            result?;
            let encode_end = encode_end.ok_or(ConvertError::Interrupted)?;
            Ok((decode_end, encode_end))
        })
    }

    /// Takes decoded frames to the end. `start_writer` is called once, when finished segments are written.
    fn frames(
        &mut self,
        decoded: &Receiver<Result<Decoded, MediaError>>,
        encoder: &SyncSender<ToEncoder>,
        start_writer: impl FnOnce(Writer, Option<Parts>),
    ) -> Result<(), ConvertError> {
        let Ok(first) = decoded.recv() else { return Err(self.too_few(0)) };
        let first = first?;
        let origin = first.frame.pts;
        self.tally.note_first(&first);
        let spec = WriteSpec {
            encoding: self.task.settings.encoding.clone(),
            container: self.container,
            rate: self.plan.rate,
            stretch: self.plan.stretch,
            origin,
            audio: self.task.settings.audio,
        };
        let mut writer = Writer::create(&self.task.temporary, self.info, &spec)?;
        let (parts, state) = self.take_up(&mut writer)?;
        start_writer(writer, parts);
        let mut timeline = Timeline::new(self.plan, origin);
        self.tally.frames_in = 1;
        let mut view = View { newest: first.frame, before: None, gap: None };
        if let Some(state) = state {
            timeline.go_on(state.on_grid);
            view = self.go_on(state, view, decoded)?;
        }
        for next in decoded {
            let next = next?;
            if self.stop.load(Ordering::Relaxed) {
                return Err(ConvertError::Interrupted);
            }
            self.tally.frames_in += 1;
            length::check(&self.task.source, next.frame.pts - origin)?;
            let (passage, joint) = next.compared();
            self.tally.note(&view.newest, &next);
            self.asked.set_bars(next.bars);
            let places = timeline.gap(stamp(&view.newest), stamp(&next.frame), passage);
            self.emit(&places, &view.newest, Some(&next.frame), encoder)?;
            self.hold_out(&view, &next.frame, passage)?;
            self.tally.gap(next.frame.pts - view.newest.pts);
            view = view.moved(next.frame, passage);
            if self.task.segments.ends(self.laid_out, joint) {
                self.end_segment(view.newest.index, timeline.on_grid(), encoder)?;
            }
            self.say("converting", 0);
        }
        let Some(gap) = view.gap else { return Err(self.too_few(1)) };
        let sane =
            |it: &Seconds| *it > Seconds::default() && *it < Seconds::from_integer(LAST_FRAME_S);
        let duration = view.newest.duration.filter(sane).unwrap_or(gap);
        let places = timeline.tail(stamp(&view.newest), duration);
        self.tally.end(&view.newest, duration, origin);
        self.emit(&places, &view.newest, None, encoder)?;
        self.advance(0, encoder)?;
        self.scoring.settle(self.asked.scorer())?;
        // A closed queue means the encoder failed; its own error is reported by the caller.
        let _ = encoder.send(ToEncoder::Finish);
        Ok(())
    }

    fn too_few(&self, count: u32) -> ConvertError {
        ConvertError::Media(MediaError::Unusable {
            path: self.task.source.clone(),
            code: "too_few_frames",
            reason: format!("{count} frames can be decoded, and slow motion needs at least 2"),
        })
    }

    /// Lets everything under way arrive, and has the encoder end its segment before source frame `frame`.
    fn end_segment(
        &mut self,
        frame: u64,
        on_grid: i128,
        encoder: &SyncSender<ToEncoder>,
    ) -> Result<(), ConvertError> {
        self.laid_out = 0;
        self.advance(0, encoder)?;
        let holdout = self.scoring.so_far(self.asked.scorer())?;
        let steps = self.resumed.engine(self.asked.description()).steps;
        let state = State { frame, on_grid, tally: self.tally.clone(), holdout, steps };
        // A closed queue means the encoder failed; its own error is reported by the caller.
        let sent = encoder.send(ToEncoder::EndSegment(Box::new(state)));
        sent.map_err(|_| ConvertError::Interrupted)
    }

    /// Sends the output frames of one gap on their way to the encoder, in order.
    fn emit(
        &mut self,
        places: &[Place],
        first: &Frame,
        second: Option<&Frame>,
        encoder: &SyncSender<ToEncoder>,
    ) -> Result<(), ConvertError> {
        self.laid_out += places.len() as u64;
        for group in places.chunks(TIMESTEPS_AT_ONCE) {
            if let Some(second) = second {
                let timestep = |place: &Place| match place.shown {
                    Shown::Between { timestep, .. } => Some(timestep),
                    _ => None,
                };
                let timesteps: Vec<f32> = group.iter().filter_map(timestep).collect();
                self.asked.ask(first, second, &timesteps)?;
            }
            for place in group {
                let (kind, picture) = match (place.shown, second) {
                    (Shown::Between { .. }, _) => (Kind::Synthesised, None),
                    (Shown::Real(index), Some(second)) if index == second.index => {
                        (Kind::Real, Some(Arc::clone(&second.picture)))
                    }
                    (Shown::Real(_), _) => (Kind::Real, Some(Arc::clone(&first.picture))),
                    (Shown::Held(_), _) => (Kind::Held, Some(Arc::clone(&first.picture))),
                };
                let (pts, duration) = (place.pts, place.duration);
                self.shown = duration;
                self.line.push_back(InLine::Output { picture, kind, pts, duration });
            }
            let depth = self.asked.depth();
            self.advance(depth, encoder)?;
        }
        Ok(())
    }

    /// Sends what is next in line to the encoder, down to `depth` pictures that the engine still works on.
    fn advance(
        &mut self,
        depth: usize,
        encoder: &SyncSender<ToEncoder>,
    ) -> Result<(), ConvertError> {
        while let Some(next) = self.line.pop_front() {
            let made = match &next {
                InLine::Output { picture: Some(_), .. } => None,
                _ if self.asked.waiting() <= depth && self.line.len() < LINE_LIMIT => {
                    self.line.push_front(next);
                    return Ok(());
                }
                _ => Some(self.asked.collect()?),
            };
            match (next, made) {
                (InLine::Output { picture, kind, pts, duration }, made) => {
                    let Some(picture) = picture.or(made.map(Arc::new)) else { continue };
                    let outgoing = Outgoing { picture, pts, duration };
                    if encoder.send(ToEncoder::Frame(outgoing)).is_err() {
                        return Err(ConvertError::Interrupted);
                    }
                    self.tally.add(kind);
                }
                (InLine::HeldOut(held_out), Some(made)) => {
                    self.scoring.score(*held_out, made, self.asked.scorer())?;
                }
                (InLine::HeldOut(_), None) => {}
            }
        }
        Ok(())
    }

    /// Asks for the middle of three real frames from the outer two.
    fn hold_out(
        &mut self,
        view: &View,
        newest: &Frame,
        passage: Passage,
    ) -> Result<(), ConvertError> {
        let middle = &view.newest;
        let Some((oldest, Passage::Open)) = &view.before else { return Ok(()) };
        if passage == Passage::Barred {
            return Ok(());
        }
        if !self.scoring.wants(middle.index) {
            return Ok(());
        }
        let part = (middle.pts - oldest.pts) / (newest.pts - oldest.pts);
        let timestep = (*part.numer() as f64 / *part.denom() as f64) as f32;
        self.asked.ask(oldest, newest, &[timestep])?;
        let (oldest, middle, newest) = (oldest.clone(), middle.clone(), newest.clone());
        self.line.push_back(InLine::HeldOut(Box::new(HeldOut {
            oldest,
            middle,
            newest,
            timestep,
        })));
        Ok(())
    }

    /// Reports progress where it is due; `step` says how far a phase without source frames is.
    pub(super) fn say(&mut self, phase: &str, step: u64) {
        if !self.pace.is_due() {
            return;
        }
        let elapsed = self.clock.elapsed().as_secs_f64();
        let (done, expected) = (self.tally.frames_in, self.info.video.frames_promised);
        // Speeds are of this run.
        let (done_now, made_now) =
            (done - self.resumed.frames_in, self.tally.total() - self.resumed.frames_out);
        let eta = |expected: u64| elapsed / done_now as f64 * expected.saturating_sub(done) as f64;
        (self.progress)(&Progress {
            phase: phase.into(),
            step,
            frames_in: done,
            frames_in_expected: expected,
            frames_out: self.tally.total(),
            fps: made_now as f64 / elapsed.max(1e-9),
            eta_s: expected.filter(|_| done_now > 0).map(eta),
        });
    }

    /// Decodes the finished file, and holds it to what was written.
    fn verify(&mut self) -> Result<Verified, ConvertError> {
        let verified = verify::verify_watched(&self.task.temporary, &mut |frames| {
            self.say("verifying", frames);
            match self.stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        if self.stop.load(Ordering::Relaxed) {
            return Err(ConvertError::Interrupted);
        }
        let duration = self.tally.source_end.unwrap_or_default() * self.plan.stretch;
        let (frames, rate, shown) = (self.tally.total(), self.plan.rate, self.shown);
        let written = Written { frames, duration, rate, shown };
        checks::verified(&self.task.temporary, &written, &verified)?;
        Ok(verified)
    }
}

fn stamp(frame: &Frame) -> Stamp {
    Stamp { index: frame.index, pts: frame.pts }
}

/// A thread's result; its panic goes on here, where the caller's isolation catches it.
fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
