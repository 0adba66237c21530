//! `slomod convert` where what goes in or what comes out are numbered pictures.
//!
//! They are gathered, as they are, in a clip within a hidden folder beside the output, and the pictures of the result are
//! written there, so that nothing is seen of them until all are there.

mod lacks;

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::cli::CliError;
use crate::cli::convert::{self, ConvertArgs, Temporary};
use crate::cli::paths::{self, folder_of};
use crate::cli::progress::Display;
use crate::config::beside::Beside;
use crate::config::settings::{Audio, Codec, Container, EncodeOn, Encoding, Settings};
use crate::daemon::names;
use crate::daemon::publish::{self, Published};
use crate::error::{Classify, ExitCode};
use crate::frame::Rate;
use crate::media::{self, MediaError};
use crate::pipeline::known::Known;
use crate::pipeline::segments::Rule;
use crate::pipeline::sequence::{self, Pattern, Sequence};
use crate::pipeline::{ConvertError, Task, room};
use crate::report::{self, Notice, Report};

/// Pictures a second that an input may be said to have.
const RATES: std::ops::RangeInclusive<i128> = 1..=1_000;
/// Largest part of such a rate, as a fraction: containers hold 32 bits.
const RATE_PART: i128 = 1_000_000_000;

/// Which ends are pictures.
pub struct Ends {
    input: Option<Rate>,
    output: Option<Pattern>,
}

impl Ends {
    /// `None` where both are clips.
    ///
    /// # Errors
    /// Exit code 64 where arguments do not go with pictures; as [`paths::readable`] where they were meant and there are none.
    pub fn of(args: &ConvertArgs) -> Result<Option<Self>, CliError> {
        let usage = |message: String| Err(CliError::new(ExitCode::Usage, message));
        let input = match (Sequence::is_named_by(&args.input), args.input_fps) {
            (false, None) => None,
            (false, Some(_)) => return Err(no_pictures(&args.input)),
            (true, None) => {
                let path = args.input.display();
                return usage(format!(
                    "{path}: pictures have no rate of their own; say it, as --input-fps 24"
                ));
            }
            (true, Some(rate)) => {
                let whole = RATES.contains(&rate.floor().to_integer()) && rate <= Rate::from(1_000);
                let parts = [rate.numer(), rate.denom()];
                if !whole || parts.into_iter().any(|it| *it > RATE_PART) {
                    return usage(format!("--input-fps is {rate}: use 1 to 1000"));
                }
                Some(rate)
            }
        };
        let output = Pattern::parse(&args.output);
        if input.is_none() && output.is_none() {
            return Ok(None);
        }
        let rate = args.crf.flatten().is_some() || args.preset.iter().flatten().next().is_some();
        let encoder = args.codec.is_some() || rate || args.encode_on != EncodeOn::Cpu;
        if output.is_some() && (encoder || args.container.is_some()) {
            return usage(
                "pictures are written as PNG: leave codec, encode-on, crf, preset and container out".into(),
            );
        }
        if output.is_some() && args.overwrite {
            return usage(
                "--overwrite is not for pictures, old ones could stay between: name another folder"
                    .into(),
            );
        }
        Ok(Some(Self { input, output }))
    }
}

/// Why `input`, which was said to be of so many pictures a second, is none.
fn no_pictures(input: &Path) -> CliError {
    if let Err(error) = paths::readable(input) {
        return CliError::of(&error);
    }
    let name = input.file_name().and_then(|it| it.to_str()).and_then(|it| it.rsplit_once('.'));
    let why = match name.filter(|it| media::pictures::is_picture(it.1)) {
        Some((stem, extension)) => {
            let before = stem.trim_end_matches(|it: char| it.is_ascii_digit());
            let (before, digits) = match stem.len() - before.len() {
                0 => ("", 4),
                digits => (before, digits),
            };
            let pattern = folder_of(input).join(format!("{before}%0{digits}d.{extension}"));
            format!("one picture is no sequence: name its folder, or {}", pattern.display())
        }
        None => "has times of its own; leave --input-fps out".to_owned(),
    };
    CliError::new(ExitCode::Usage, format!("{}: {why}", input.display()))
}

/// Converts and publishes, until `stop` is set.
///
/// # Errors
/// As [`convert::run`].
pub fn run(args: &ConvertArgs, ends: &Ends, stop: Arc<AtomicBool>) -> Result<(), CliError> {
    let mut settings = args.settings()?;
    match &ends.output {
        Some(pattern) => {
            check_free(pattern, &mut settings)?;
            paths::check_report(args, &beside(&pattern.folder), Some(pattern))?;
        }
        None => {
            paths::check_output(args)?;
            paths::check_report(args, &paths::usual_report(args), None)?;
        }
    }
    // On the file system where the pictures will be: a folder that is there may be another.
    let parent = match &ends.output {
        Some(pattern) if pattern.folder.is_dir() => pattern.folder.as_path(),
        Some(pattern) => folder_of(&pattern.folder),
        None => folder_of(&args.output),
    };
    let room = tempfile::Builder::new().prefix(".slomod-tmp-").tempdir_in(parent);
    let room = room.map_err(|error| {
        let message = format!("{}: cannot be written: {error}", parent.display());
        CliError::new(ExitCode::CannotCreate, message)
    })?;
    let clip = room.path().join("pictures.mov");
    let result = room.path().join("result.mov");
    let pictures = ends.output.is_some();
    let task = Task {
        source: if ends.input.is_some() { clip } else { args.input.clone() },
        temporary: match pictures {
            true => result.clone(),
            false => names::temporary(&args.output, i64::from(std::process::id()), 0),
        },
        parts: None,
        segments: Rule::default(),
        output: if pictures { result } else { args.output.clone() },
        settings_sha256: convert::identity(&settings),
        settings,
    };
    let _temporary = Temporary(task.temporary.clone());
    let (room, measured) = (room.path(), OnceCell::new());
    let work = Work { args, ends, task, parent, room, stop, measured };
    let mut known = Known::start();
    work.done(&mut known).map_err(|error| work.said(&error, known))
}

/// Where pictures are to be written there are none yet; sets what is always so for them.
fn check_free(pattern: &Pattern, settings: &mut Settings) -> Result<(), CliError> {
    if settings.beside != Beside::default() {
        let message = "page, comparison, stills, list of frames and profile evidence go with a clip, not with pictures: \
                       name an output that ends in .mp4, .mkv or .mov";
        return Err(CliError::new(ExitCode::Usage, message));
    }
    if !pattern.path(0).extension().is_some_and(|it| it.eq_ignore_ascii_case("png")) {
        let message = format!("{}: pictures are written as .png", pattern.path(0).display());
        return Err(CliError::new(ExitCode::Usage, message));
    }
    let found = pattern.found().map_err(|error| {
        let message = format!("{}: cannot be read: {error}", pattern.folder.display());
        CliError::new(ExitCode::CannotCreate, message)
    })?;
    if let Some((_, path)) = found.first() {
        let message = format!("{}: is there already; name another folder", path.display());
        return Err(CliError::new(ExitCode::CannotCreate, message));
    }
    let (codec, container) = (Codec::Ffv1, Some(Container::Mov));
    settings.encoding = Encoding { codec, container, ..Encoding::default() };
    settings.audio = Audio::Drop;
    Ok(())
}

struct Work<'a> {
    args: &'a ConvertArgs,
    ends: &'a Ends,
    task: Task,
    /// Where the room is, by the folder that the user named.
    parent: &'a Path,
    room: &'a Path,
    stop: Arc<AtomicBool>,
    /// Size of all pictures that go in, and their hash, before the work.
    measured: OnceCell<(u64, String)>,
}

/// Why it failed: by a conversion, or by what is round it.
enum Failure {
    Convert(ConvertError),
    Cli(CliError),
}

impl From<ConvertError> for Failure {
    fn from(error: ConvertError) -> Self {
        Self::Convert(error)
    }
}

impl From<MediaError> for Failure {
    fn from(error: MediaError) -> Self {
        Self::Convert(error.into())
    }
}

impl Work<'_> {
    fn done(&self, known: &mut Known) -> Result<(), Failure> {
        if self.ends.input.is_none() {
            paths::whole(&self.args.input)?;
        }
        let pictures = self.ends.input.map(|rate| Ok::<_, Failure>((self.gathered(rate)?, rate)));
        let pictures = pictures.transpose()?;
        convert::check_room(self.parent, |folder| match &self.ends.output {
            Some(_) => room::check_pictures(&self.task, folder),
            None => room::check(&self.task, folder, 0),
        })?;
        let mut display = Display::new();
        let result = convert::work(&self.task, &self.stop, &mut display, known);
        display.clear();
        let mut report = result?;
        if let Some(((sequence, before), rate)) = &pictures {
            self.name_source(&mut report, sequence, before, *rate)?;
        }
        let published = match &self.ends.output {
            None => {
                convert::publish(self.args, self.task.clone(), &report).map_err(Failure::Cli)?
            }
            Some(pattern) => self.pictures(pattern, &mut report)?,
        };
        convert::tell_done(self.args, &report, &published).map_err(Failure::Cli)
    }

    fn gathered(&self, rate: Rate) -> Result<(Sequence, (u64, String)), ConvertError> {
        let sequence = Sequence::find(&self.args.input)?;
        let before = sequence.measure(&self.stop)?;
        let _ = self.measured.set(before.clone());
        convert::check_room(self.parent, |folder| match room::trouble(folder, before.0, 0) {
            Some(why) => Err(ConvertError::NoSpace(why)),
            None => Ok(()),
        })?;
        sequence.gather(&self.task.source, rate, &self.stop)?;
        Ok((sequence, before))
    }

    /// What the report says of the source is said of the pictures, which must be what they were.
    fn name_source(
        &self,
        report: &mut Report,
        sequence: &Sequence,
        before: &(u64, String),
        rate: Rate,
    ) -> Result<(), ConvertError> {
        let after = sequence.measure(&self.stop)?;
        if after != *before {
            let (path, before, after) = (sequence.path.clone(), before.1.clone(), after.1);
            return Err(ConvertError::SourceChanged { path, before, after });
        }
        self.name(report);
        report.source.sha256_after = Some(after.1);
        let message = format!(
            "the source is {} numbered pictures, which have no times of their own: that they are {rate} a second was \
             said on the command line",
            sequence.files.len()
        );
        report.warnings.push(Notice { code: "rate_was_said".into(), message });
        Ok(())
    }

    /// Names the source as the command line does, not as the clip that its pictures were gathered in.
    fn name(&self, report: &mut Report) {
        if self.ends.input.is_none() {
            return;
        }
        let measured = self.measured.get();
        let source = &mut report.source;
        (source.path, source.path_b64) = report::path_fields(&self.args.input);
        source.modified = None;
        source.size_bytes = measured.map_or(0, |it| it.0);
        source.sha256 = measured.map(|it| it.1.clone());
        source.format = source.format.as_ref().map(|_| "image2".into());
    }

    /// Writes the pictures of the finished result, gives them their names, and their report its own behind them.
    fn pictures(&self, pattern: &Pattern, report: &mut Report) -> Result<Published, Failure> {
        let staged = pattern.within(self.room.join("pictures"));
        fs::create_dir(&staged.folder).map_err(|error| cannot(&staged.folder, &error))?;
        let written =
            sequence::write(&self.task.temporary, &self.task.source, &staged, &self.stop)?;
        lacks::tell(report, written.pixel_shape);
        self.place(&staged.folder, &pattern.folder, &written.files)?;
        if let Some(output) = &mut report.output {
            for left in output.sidecars.drain(..) {
                let message = format!("the file of {} is not kept beside pictures", left.kind);
                report.warnings.push(Notice { code: "stream_dropped".into(), message });
            }
            (output.path, output.path_b64) = report::path_fields(&self.args.output);
            output.size_bytes = written.size_bytes;
            output.sha256 = written.sha256;
            output.format = "image2".into();
            output.codec = Some("png".into());
            output.encoder = "png".into();
            output.encoder_options = String::new();
            output.pixel_format = written.pixel_format.into();
        }
        let path = self.args.report.clone().unwrap_or_else(|| beside(&pattern.folder));
        publish::publish_report_at(&path, report, convert::collision(self.args))
            .map_err(|error| Failure::Cli(CliError::of(&error)))?;
        Ok(Published { output: self.args.output.clone(), report_path: path })
    }

    /// Moves the whole folder, or where that is there already, one picture after the other.
    fn place(&self, staged: &Path, folder: &Path, files: &[PathBuf]) -> Result<(), Failure> {
        for file in files {
            let synced = fs::File::open(file).and_then(|it| it.sync_all());
            synced.map_err(|error| cannot(file, &error))?;
        }
        if !folder.exists() {
            return fs::rename(staged, folder).map_err(|error| cannot(folder, &error));
        }
        for file in files {
            let to = folder.join(file.file_name().unwrap_or_default());
            let free = publish::place_free(file, &to)
                .map_err(|error| Failure::Cli(CliError::of(&error)))?;
            if !free {
                let message = format!("{}: is there already; it was not replaced", to.display());
                return Err(Failure::Cli(CliError::new(ExitCode::CannotCreate, message)));
            }
        }
        Ok(())
    }

    /// The error as the command line names files, with a report where one was asked for.
    fn said(&self, failure: &Failure, mut known: Known) -> CliError {
        let error = match failure {
            Failure::Cli(error) => return CliError::new(error.exit, error.message.clone()),
            Failure::Convert(error) => error,
        };
        let inner = self.task.source.display().to_string();
        let outer = self.args.input.display().to_string();
        let wanted = self.args.json || self.args.report.is_some();
        if wanted && self.ends.input.is_none() {
            known.read_source(&self.task, error, &self.stop);
        }
        let mut report = known.failure_report(&self.task, error);
        self.name(&mut report);
        for notice in &mut report.errors {
            notice.message = notice.message.replace(&inner, &outer);
        }
        convert::tell_failure(self.args, &report);
        CliError::new(error.exit_code(), error.to_string().replace(&inner, &outer))
    }
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("{}: cannot be written: {error}", path.display());
    Failure::Cli(CliError::new(ExitCode::CannotCreate, message))
}

/// `folder.json`; for one without a name (`.`) a file in it.
fn beside(folder: &Path) -> PathBuf {
    if folder.file_name().is_none() {
        return folder.join("pictures.json");
    }
    let mut name = folder.as_os_str().to_owned();
    name.push(".json");
    name.into()
}
