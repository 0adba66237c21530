//! Runs a conversion: decode, network and encode at the same time over bounded queues, then verification.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::config::settings::{Container, Device, Settings};
use crate::engine::Interpolator;
use crate::frame::{Frame, Seconds};
use crate::media;
use crate::media::MediaError;
use crate::media::clip::{ClipInfo, WriteSpec};
use crate::media::decode::Decoder;
use crate::media::write::Writer;
use crate::pipeline::ahead::Asked;
use crate::pipeline::beside::{self, Clip};
use crate::pipeline::checks;
use crate::pipeline::cut_list;
use crate::pipeline::drives;
use crate::pipeline::encode_quality::EncodeQuality;
use crate::pipeline::fingerprint::Fingerprint;
use crate::pipeline::known::{Counts, Known};
use crate::pipeline::ledger::{Hash, Ledger};
use crate::pipeline::length;
use crate::pipeline::line::InLine;
use crate::pipeline::looking::{Decoded, Looker};
use crate::pipeline::masking::Masks;
use crate::pipeline::pace::{Beat, Pace};
use crate::pipeline::parts::{self, Parts, State};
use crate::pipeline::plan::{self, Plan, Sampling};
use crate::pipeline::repeatable;
use crate::pipeline::resume::Resumed;
use crate::pipeline::scoring::Scoring;
use crate::pipeline::stages::{self, DecodeEnd, EncodeEnd, LookEnd, ToEncoder};
use crate::pipeline::summary::{self, Facts};
use crate::pipeline::tally::Tally;
use crate::pipeline::timelapse;
use crate::pipeline::timeline::{Instant as Place, Passage, Stamp, Timeline};
use crate::pipeline::warnings;
use crate::pipeline::{ConvertError, Progress, Task};
use crate::report::Report;

/// A last frame that claims to be shown this long or longer is damaged: it is shown as long as the one before.
const LAST_FRAME_S: i128 = 60;

/// Converts `task.source` into `task.temporary`, verifies it by decoding, and reports. Publishing (the rename to the
/// final name) is the caller's, and so is the removal of `task.parts`. On an error nothing is left at `task.temporary`;
/// in `task.parts`, where the task names such a folder, are the finished segments for the next try, unless the error
/// voids them.
///
/// # Errors
/// [`ConvertError`]; [`convert_knowing`] leaves what a report of the failure says.
pub fn convert(
    task: &Task,
    engine: &mut dyn Interpolator,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, ConvertError> {
    convert_knowing(task, engine, stop, progress, &mut Known::start())
}

/// The same, which notes in `known` what it finds out.
///
/// # Errors
/// [`ConvertError`]; a report of the failure comes from [`Known::failure_report`].
pub fn convert_knowing(
    task: &Task,
    engine: &mut dyn Interpolator,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Progress),
    known: &mut Known,
) -> Result<Report, ConvertError> {
    *known = Known::start();
    let result = run(task, engine, stop, progress, known);
    if result.is_err() {
        // The writer removes its own file on most errors; what is left after verification is removed here.
        let _ = std::fs::remove_file(&task.temporary);
        let _ = beside::remove(&task.temporary);
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
        ConvertError::Engine(_) | ConvertError::NoSpace(_) | ConvertError::Interrupted => false,
    }
}

/// The report of a clip that failed or was refused before anything was known of it.
#[must_use]
pub fn failure_report(task: &Task, error: &ConvertError) -> Report {
    Known::start().failure_report(task, error)
}

fn run(
    task: &Task,
    engine: &mut dyn Interpolator,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Progress),
    known: &mut Known,
) -> Result<Report, ConvertError> {
    progress(&Progress { phase: "opening".into(), ..Progress::default() });
    media::init();
    // What a process that was killed left there is not this output's.
    let _ = beside::remove(&task.temporary);
    let mut pace = Pace::default();
    let before = Fingerprint::take(&task.source, stop, &mut |step| {
        if pace.is_due() {
            progress(&Progress { phase: "opening".into(), step, ..Progress::default() });
        }
    })?;
    known.before = Some(before.clone());
    let decoder = Decoder::open_as(&task.source, task.settings.interlaced)?;
    let info = decoder.info().clone();
    known.info = Some(info.clone());
    length::check_header(&info, before.size_bytes)?;
    let by_name = timelapse::by_name(&info);
    timelapse::check(task, by_name.as_ref())?;
    let plan = plan::plan(&task.settings, info.video.rate.unwrap_or(plan::FALLBACK_RATE))
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
        pace,
        source: &before,
        known: &mut *known,
        resumed: Resumed::default(),
        origin: Seconds::default(),
        laid_out: 0,
        tally: Tally::default(),
        scoring: Scoring::new(&task.settings, info.video.frames_promised),
        newest: None,
        ledger: None,
        listed: cut_list::read(&task.settings, &task.source)?,
        masks: Masks::find(task, info.video.picture, stop)?,
        encode_quality: EncodeQuality::new(info.video.picture, task.settings.quality_samples),
        accounted: 0,
    };
    session.masks.unscored =
        session.scoring.leave_out(&session.masks.rectangles(), info.video.picture);
    if task.settings.beside.frame_list {
        session.ledger = Some(Ledger::create(&task.temporary)?);
    }
    let (decode_end, look_end, encode_end) = session.work(decoder)?;
    session.tally.lost_at_end(decode_end.lost_at_end);
    checks::complete(&task.source, &info, &decode_end.stats)?;
    let timelapse = by_name.or_else(|| timelapse::by_pictures(&info, look_end.leaps));
    timelapse::check(task, timelapse.as_ref())?;
    let inspected = session.inspect()?;
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
    let (length, origin) = (session.tally.source_end, session.origin);
    let streams = encode_end.summary.sidecar.clone();
    let reached = session.reached("verifying", 0);
    let length = length.unwrap_or_default();
    let (holdout, vmaf_fault) = session.scoring.finish();
    // Behind all that may want memory, and before time and memory are read, which are to count this too.
    let gaps = drives::gaps(&task.source, *length.numer() as f64 / *length.denom() as f64);
    let (started, wall) = (session.known.started().to_owned(), session.known.elapsed());
    let mut report = summary::done(Facts {
        task,
        info: &info,
        plan,
        engine,
        frames_made: session.tally.total() - session.resumed.frames_out,
        resumed: session.resumed.list,
        network_busy: session.asked.busy(),
        network_frames: session.asked.pictures(),
        tally: session.tally,
        holdout,
        vmaf_fault,
        timelapse,
        gaps,
        decode: decode_end,
        look: look_end,
        encode: encode_end,
        inspected,
        masks: session.masks,
        before: before.clone(),
        after,
        output,
        started,
        wall,
    });
    report.warnings.extend(warnings::of_cut_list(&session.listed, length));
    let (progress, mut pace) = (session.progress, session.pace);
    let clip = Clip { info: &info, plan, origin, length, streams: streams.as_ref() };
    let mut step = 0;
    let mut advanced = || {
        step += 1;
        if pace.is_due() {
            progress(&Progress { phase: "verifying".into(), step, ..reached.clone() });
        }
    };
    beside::make(task, &clip, &mut report, &mut Beat { stop, advanced: &mut advanced })?;
    Ok(report)
}

/// The container: as configured, else by the output's extension, else the usual one.
fn container(settings: &Settings, output: &Path) -> Container {
    let named = settings.encoding.container.or(Container::of_name(output));
    named.unwrap_or(settings.usual_container())
}

/// The state of one conversion, on the network's thread.
pub(super) struct Session<'a> {
    pub(super) task: &'a Task,
    pub(super) info: &'a ClipInfo,
    pub(super) source: &'a Fingerprint,
    pub(super) plan: Plan,
    container: Container,
    pub(super) asked: Asked<'a>,
    pub(super) line: VecDeque<InLine>,
    pub(super) stop: &'a Arc<AtomicBool>,
    progress: &'a mut dyn FnMut(&Progress),
    pace: Pace,
    known: &'a mut Known,
    pub(super) resumed: Resumed,
    /// Time of the first source frame.
    origin: Seconds,
    /// Output frames of the open segment.
    pub(super) laid_out: u64,
    pub(super) tally: Tally,
    pub(super) scoring: Scoring,
    /// The newest output frame.
    pub(super) newest: Option<Place>,
    /// The list of frames, where it is asked for.
    pub(super) ledger: Option<Ledger>,
    /// Listed cuts.
    pub(super) listed: Vec<Seconds>,
    /// Where nothing is made up.
    pub(super) masks: Masks,
    /// Real frames that are compared with those of the finished output.
    pub(super) encode_quality: EncodeQuality,
    /// Output frames that were laid out, in this run and before.
    pub(super) accounted: u64,
}

/// The frames in view: the newest, and the one before it with the passage between them.
pub(super) struct View {
    pub(super) newest: Frame,
    pub(super) before: Option<(Frame, Passage)>,
    /// Length of the last gap, for a last frame that carries no duration.
    gap: Option<Seconds>,
}

impl View {
    /// The view from the frame behind `passage`.
    pub(super) fn moved(self, next: Decoded, passage: Passage) -> Self {
        let last = next.repaired.last().map_or(self.newest.pts, |it| it.pts);
        let gap = Some(next.frame.pts - last);
        // Over a repaired picture the motion is that of two gaps: not what is measured elsewhere.
        let passage = if next.repaired.is_empty() { passage } else { Passage::Barred };
        Self { gap, before: Some((self.newest, passage)), newest: next.frame }
    }
}

impl Session<'_> {
    fn work(&mut self, decoder: Decoder) -> Result<(DecodeEnd, LookEnd, EncodeEnd), ConvertError> {
        let (taken_in, taken_out) = sync_channel(stages::TAKEN_QUEUE);
        let (decoded_in, decoded_out) = sync_channel(stages::DECODED_QUEUE);
        self.known.engine = Some(self.asked.description());
        let (encode_in, encode_out) = sync_channel(stages::ENCODE_QUEUE);
        std::thread::scope(|scope| {
            let looker = Looker::new(&self.task.settings, &self.listed, self.info.video.rate);
            let decode = scope.spawn(move || stages::decode(decoder, &taken_in));
            let look = scope.spawn(move || stages::look(looker, &taken_out, &decoded_in));
            let mut encode_out = Some(encode_out);
            let mut encode = None;
            let result = self.frames(&decoded_out, &encode_in, |writer, parts| {
                let run = |queue| scope.spawn(move || stages::encode(parts, writer, &queue));
                encode = encode_out.take().map(run);
            });
            // Closing the queues ends all threads, whatever happened.
            drop((decoded_out, encode_in));
            let (decode_end, look_end) = (join(decode), join(look));
            // An error ends here, and what was counted is known even so.
            self.known.counts = Some(Counts::of(&decode_end.stats, &self.tally));
            self.known.engine = Some(self.resumed.engine(self.asked.description()));
            let encode_end = encode.map(join).transpose();
            // The encoder's own error is the cause of a queue that closed under the network.
            let encode_end = encode_end?.flatten();
            result?;
            let encode_end = encode_end.ok_or(ConvertError::Interrupted)?;
            Ok((decode_end, look_end, encode_end))
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
        self.origin = origin;
        let spec = WriteSpec {
            encoding: self.task.settings.encoding.clone(),
            container: self.container,
            rate: self.plan.rate,
            constant: matches!(self.plan.sampling, Sampling::Grid(_)),
            stretch: self.plan.stretch,
            origin,
            audio: self.task.settings.audio,
            encoder_threads: repeatable::encoder_threads(&self.task.settings),
            encoder_gpu: match self.task.settings.device {
                Device::Cuda(number) => Some(number),
                Device::Auto | Device::Cpu => None,
            },
        };
        let mut writer = Writer::create(&self.task.temporary, self.info, &spec)?;
        let (parts, state) = self.take_up(&mut writer)?;
        start_writer(writer, parts);
        let mut timeline = Timeline::new(self.plan, origin);
        self.tally.frames_in = 1;
        self.see(first.frame.index, first.hash);
        let mut view = View { newest: first.frame, before: None, gap: None };
        if let Some(state) = state {
            view = self.go_on(state, view, &mut timeline, decoded)?;
        }
        for next in decoded {
            let next = next?;
            if self.stop.load(Ordering::Relaxed) {
                return Err(ConvertError::Interrupted);
            }
            self.tally.frames_in += 1 + next.repaired.len() as u64;
            length::check(&self.task.source, next.frame.pts - origin)?;
            let (passage, joint) = next.compared();
            self.tally.note(&view.newest, &next);
            self.see(next.frame.index, next.hash);
            self.asked.set_bars(next.bars);
            let places = laid_out(&mut timeline, &view.newest, &next, passage);
            self.emit(&places, &view.newest, Some(&next.frame), next.score(), encoder)?;
            if next.repaired.is_empty() {
                self.hold_out(&view, &next.frame, passage)?;
            }
            view = view.moved(next, passage);
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
        self.emit(&places, &view.newest, None, None, encoder)?;
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

    /// Notes the hash of a source frame for the list of frames.
    pub(super) fn see(&mut self, index: u64, hash: Option<Hash>) {
        if let Some(ledger) = &mut self.ledger {
            ledger.saw(index, hash);
        }
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

    /// Reports progress where it is due; `step` says how far a phase without source frames is.
    pub(super) fn say(&mut self, phase: &str, step: u64) {
        if self.pace.is_due() {
            let reached = self.reached(phase, step);
            (self.progress)(&reached);
        }
    }

    fn reached(&self, phase: &str, step: u64) -> Progress {
        let elapsed = self.known.elapsed().as_secs_f64();
        let (done, expected) = (self.tally.frames_in, self.info.video.frames_promised);
        // Speeds are of this run.
        let (done_now, made_now) =
            (done - self.resumed.frames_in, self.tally.total() - self.resumed.frames_out);
        let eta = |expected: u64| elapsed / done_now as f64 * expected.saturating_sub(done) as f64;
        Progress {
            phase: phase.into(),
            step,
            frames_in: done,
            frames_in_expected: expected,
            frames_out: self.tally.total(),
            fps: made_now as f64 / elapsed.max(1e-9),
            eta_s: expected.filter(|_| done_now > 0).map(eta),
        }
    }
}

/// The output frames between `newest` and `next`, over repeated pictures that are replaced.
pub(super) fn laid_out(
    timeline: &mut Timeline,
    newest: &Frame,
    next: &Decoded,
    passage: Passage,
) -> Vec<Place> {
    let (first, second) = (stamp(newest), stamp(&next.frame));
    match next.repaired[..] {
        [] => timeline.gap(first, second, passage),
        ref repaired => timeline.gap_over(first, repaired, second),
    }
}

fn stamp(frame: &Frame) -> Stamp {
    Stamp { index: frame.index, pts: frame.pts }
}

/// A thread's result; its panic goes on here, where the caller's isolation catches it.
fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
