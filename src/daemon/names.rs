//! The names of what slomod writes: outputs, reports, and the temporary files before them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::config::settings::{Mode, Settings};

/// Longest file name of Linux file systems.
const NAME_MAX_BYTES: usize = 255;
/// Kept free in output names for `~123`, `.json`, and what turns them into temporary names.
const RESERVED_BYTES: usize = 64;
/// Longest ending that counts as an extension, which what is made of a name keeps.
const LONGEST_EXTENSION_BYTES: usize = 16;
/// Bytes of the longest character of UTF-8 behind its first.
const CONTINUED_BYTES: usize = 3;
/// In the name of every temporary file; nothing else contains it.
const TEMPORARY_MARK: &str = "slomod-tmp";
/// Of folders of finished segments.
const PARTS_EXTENSION: &str = "parts";

/// File name of the output of `source`: `ride.mov` becomes `ride_slow4x.mp4`, `ride_60fps.mp4`, and so on. The part
/// before the suffix is cut where the name would be too long.
#[must_use]
pub fn output_name(source: &Path, settings: &Settings) -> OsString {
    let stem = source.file_stem().unwrap_or(OsStr::new("clip"));
    let container = settings.encoding.container.unwrap_or(settings.usual_container());
    let tail = format!("{}.{}", suffix(settings), container.extension());
    let mut name = shortened(stem, NAME_MAX_BYTES - RESERVED_BYTES - tail.len());
    name.push(tail);
    name
}

fn suffix(settings: &Settings) -> String {
    let rate = |rate: num_rational::Ratio<i128>| rate.to_string().replace('/', "-");
    match (settings.mode, settings.factor, settings.speed, settings.fps) {
        (Mode::Slow, Some(factor), _, None) => format!("_slow{factor}x"),
        (Mode::Slow, Some(factor), _, Some(fps)) => format!("_slow{factor}x_{}fps", rate(fps)),
        (Mode::Slow, None, Some(speed), None) => format!("_speed{}", rate(speed)),
        (Mode::Slow, None, Some(speed), Some(fps)) => {
            format!("_speed{}_{}fps", rate(speed), rate(fps))
        }
        (Mode::Slow, None, None, _) => "_slow".into(),
        (Mode::Smooth, _, _, Some(fps)) => format!("_{}fps", rate(fps)),
        (Mode::Smooth, Some(factor), _, None) => format!("_smooth{factor}x"),
        (Mode::Smooth, None, _, None) => "_smooth".into(),
    }
}

/// The `number`th name for `wanted`: itself, then `name~2.ext`, `name~3.ext`, …. Where that would be longer than names may
/// be, the part before the number is cut.
#[must_use]
pub fn numbered(wanted: &OsStr, number: u32) -> OsString {
    if number <= 1 {
        return wanted.to_owned();
    }
    let path = Path::new(wanted);
    let mark = format!("~{number}");
    let fits = |it: &&OsStr| it.len() <= LONGEST_EXTENSION_BYTES;
    let (stem, tail) = match (path.file_stem(), path.extension().filter(fits)) {
        (Some(stem), Some(extension)) => {
            (stem, [mark.as_bytes(), b".", extension.as_bytes()].concat())
        }
        _ => (wanted, mark.into_bytes()),
    };
    let mut name = shortened(stem, NAME_MAX_BYTES - tail.len());
    name.push(OsString::from_vec(tail));
    name
}

/// The name that [`numbered`] made `name` of; itself where it has no number.
#[must_use]
pub fn unnumbered(name: &OsStr) -> OsString {
    let path = Path::new(name);
    let stem = path.file_stem().unwrap_or(name).as_bytes();
    let mark = stem.iter().rposition(|byte| *byte == b'~');
    let Some(mark) = mark.filter(|it| {
        let digits = &stem[it + 1..];
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
    }) else {
        return name.to_owned();
    };
    let mut plain = OsString::from_vec(stem[..mark].to_vec());
    if let Some(extension) = path.extension() {
        plain.push(".");
        plain.push(extension);
    }
    plain
}

/// Name of the report beside an output.
#[must_use]
pub fn report_path(output: &Path) -> PathBuf {
    appended(output, ".json")
}

/// Name of the report of a source that got no output: `ride.mov.failed.json`. `word` is `failed`, `refused`,
/// `duplicate` or `skipped`.
#[must_use]
pub fn report_name_without_output(source: &Path, word: &str) -> OsString {
    let tail = format!(".{word}.json");
    let name = source.file_name().unwrap_or(OsStr::new("clip"));
    let mut name = shortened(name, NAME_MAX_BYTES - RESERVED_BYTES - tail.len());
    name.push(tail);
    name
}

/// Temporary name in the folder of `output`: hidden, marked, and with job and attempt, so that what a dead attempt left
/// is told from what a living one writes. It keeps the extension, by which FFmpeg chooses the container.
#[must_use]
pub fn temporary(output: &Path, job: i64, attempt: i64) -> PathBuf {
    let stem = output.file_stem().unwrap_or(OsStr::new("clip"));
    let mut name = OsString::from(".");
    name.push(shortened(stem, NAME_MAX_BYTES - RESERVED_BYTES));
    name.push(format!(".{job}.{attempt}.{TEMPORARY_MARK}."));
    let extension = output.extension().filter(|it| it.len() <= LONGEST_EXTENSION_BYTES);
    name.push(extension.unwrap_or(OsStr::new("mp4")));
    output.with_file_name(name)
}

/// [`temporary`] for one of several daemons that may write to the folder one after the other: their jobs have the same
/// numbers, and `tag` tells them apart.
#[must_use]
pub fn temporary_of(output: &Path, tag: &str, job: i64, attempt: i64) -> PathBuf {
    let plain = temporary(output, job, attempt);
    let name = plain.file_name().unwrap_or_default().as_bytes();
    let mark = format!(".{job}.{attempt}.{TEMPORARY_MARK}.");
    let at = name.windows(mark.len()).rposition(|window| window == mark.as_bytes());
    let (before, after) = name.split_at(at.unwrap_or(name.len()));
    let tagged = [before, b".", tag.as_bytes(), after].concat();
    plain.with_file_name(OsString::from_vec(tagged))
}

/// Hidden name of the original `source` of a job while it is being moved away, in its own folder.
#[must_use]
pub fn parked(source: &Path, tag: &str, job: i64) -> PathBuf {
    appended(&temporary_of(source, tag, job, 0), ".original")
}

/// The folder beside the output in which every attempt of a job keeps its finished segments, for the job of a
/// [`temporary`] name; `None` where it is no such name.
#[must_use]
pub fn parts_of_temporary(temporary: &Path) -> Option<PathBuf> {
    let attempt = Path::new(temporary.file_stem()?).with_extension("");
    temporary.file_name().filter(|name| is_temporary(name))?;
    let job = attempt.file_stem()?;
    let mut name = job.to_owned();
    name.push(format!(".{TEMPORARY_MARK}.{PARTS_EXTENSION}"));
    Some(temporary.with_file_name(name))
}

/// Temporary name of the report of a job that gets no output, for the job's [`temporary`] name: whoever removes what is
/// left under that one finds it.
#[must_use]
pub fn report_of_temporary(temporary: &Path) -> PathBuf {
    temporary.with_extension("json")
}

/// Temporary name for a report that will be `report`.
#[must_use]
pub fn temporary_report(report: &Path) -> PathBuf {
    let name = report.file_name().unwrap_or(OsStr::new("report.json"));
    let mut hidden = OsString::from(".");
    hidden.push(shortened(name, NAME_MAX_BYTES - RESERVED_BYTES / 2));
    hidden.push(format!(".{TEMPORARY_MARK}"));
    report.with_file_name(hidden)
}

/// Whether `name` is one of slomod's temporary names.
#[must_use]
pub fn is_temporary(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    let mark = TEMPORARY_MARK.as_bytes();
    bytes.first() == Some(&b'.') && bytes.windows(mark.len()).any(|window| window == mark)
}

fn appended(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

/// The first bytes of `name`, at the most `limit`, not cut within a UTF-8 character. What is no UTF-8 is cut anywhere.
fn shortened(name: &OsStr, limit: usize) -> OsString {
    let bytes = name.as_bytes();
    if bytes.len() <= limit {
        return name.to_owned();
    }
    let continues = |byte: u8| byte & 0xC0 == 0x80;
    let starts = (limit.saturating_sub(CONTINUED_BYTES)..=limit).rev();
    let end = starts.into_iter().find(|it| !continues(bytes[*it])).unwrap_or(limit);
    OsString::from_vec(bytes[..end].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{Codec, Profile};
    use num_rational::Ratio;

    fn slow(factor: u32) -> Settings {
        Settings { factor: Some(factor), ..Settings::default() }
    }

    fn name(source: &str, settings: &Settings) -> String {
        output_name(Path::new(source), settings).into_string().unwrap()
    }

    #[test]
    fn outputs_say_what_was_done() {
        let default = Settings::default();
        let fps = Some(Ratio::new(60000, 1001));
        assert_eq!(name("/in/ride.mov", &slow(4)), "ride_slow4x.mp4");
        let speed = Settings { speed: Some(Ratio::new(1, 3)), ..default.clone() };
        assert_eq!(name("a.b.mp4", &speed), "a.b_speed1-3.mp4");
        let smooth = Settings { mode: Mode::Smooth, fps, ..default.clone() };
        assert_eq!(name("ride.mp4", &smooth), "ride_60000-1001fps.mp4");
        let smooth = Settings { mode: Mode::Smooth, ..slow(2) };
        assert_eq!(name("ride.mp4", &smooth), "ride_smooth2x.mp4");
        let mut lossless = slow(2);
        lossless.encoding.codec = Codec::Ffv1;
        assert_eq!(name("ride.mp4", &lossless), "ride_slow2x.mkv");
        let evidence = Settings { factor: Some(2), ..Profile::Evidence.settings() };
        assert_eq!(name("ride.mp4", &evidence), "ride_slow2x.mov");
    }

    #[test]
    fn later_names_are_numbered_before_the_extension() {
        assert_eq!(numbered(OsStr::new("a.b.mp4"), 1), "a.b.mp4");
        assert_eq!(numbered(OsStr::new("a.b.mp4"), 3), "a.b~3.mp4");
        assert_eq!(numbered(OsStr::new("plain"), 2), "plain~2");
        for name in ["a.b.mp4", "a.b~3.mp4", "a.b~12.mp4"] {
            assert_eq!(unnumbered(OsStr::new(name)), "a.b.mp4");
        }
        assert_eq!(unnumbered(OsStr::new("a~b.mp4")), "a~b.mp4");
    }

    /// W31. Of names that are as long as a name may be.
    #[test]
    fn numbered_names_of_long_ones_fit_and_keep_number_and_extension() {
        let named = |stem: &[u8], extension: &str| {
            OsString::from_vec([stem, extension.as_bytes()].concat())
        };
        let korean = named(format!("{}ab", "한".repeat(83)).as_bytes(), ".mp4");
        assert_eq!(korean.len(), NAME_MAX_BYTES);
        let text = |number| numbered(&korean, number).into_string().unwrap();
        assert_eq!(text(2), format!("{}~2.mp4", "한".repeat(83)));
        assert_eq!(text(10_000), format!("{}~10000.mp4", "한".repeat(81)));
        // No text at all, as of an older encoding: nothing of it is the beginning of a character.
        let bytes = numbered(&named(&[0xBF; 251], ".mp4"), 3);
        assert_eq!(bytes, named(&[0xBF; 249], "~3.mp4"));
        let longest = numbered(&named(b"a.", &"x".repeat(253)), 2);
        assert_eq!(longest, named(b"a.", &("x".repeat(251) + "~2")));
        let parked = parked(Path::new(&named(b"/in/a.", &"x".repeat(200))), "1a2b3c4d", 1 << 31);
        assert!(parked.file_name().unwrap().len() <= NAME_MAX_BYTES, "{}", parked.display());
    }

    #[test]
    fn names_fit_the_file_system_and_stay_text() {
        let source = format!("/in/{}.mp4", "한".repeat(83));
        let output = output_name(Path::new(&source), &slow(16));
        assert!(output.to_str().is_some(), "cut between characters");
        let output = Path::new("/out").join(numbered(&output, 123));
        for path in [
            report_path(&output),
            temporary_of(&output, "1a2b3c4d", i64::from(i32::MAX), 99),
            temporary_report(&report_path(&output)),
            parked(Path::new(&source), "1a2b3c4d", i64::from(i32::MAX)),
            Path::new("/out").join(report_name_without_output(Path::new(&source), "duplicate")),
        ] {
            let length = path.file_name().unwrap().len();
            assert!(length <= NAME_MAX_BYTES, "{length}: {}", path.display());
        }
    }

    #[test]
    fn names_that_are_no_text_keep_their_bytes() {
        let source = PathBuf::from(OsString::from_vec(b"/in/\xff\xfe.mp4".to_vec()));
        assert_eq!(output_name(&source, &slow(2)).as_bytes(), b"\xff\xfe_slow2x.mp4");
    }

    #[test]
    fn the_segments_of_a_job_are_found_from_the_name_of_any_of_its_attempts() {
        for output in ["/out/a_slow2x.mp4", "/out/a.b.c_slow.mkv", "/out/한 글.mov"] {
            let attempt = |job, attempt| temporary_of(Path::new(output), "1a2b3c4d", job, attempt);
            let parts = parts_of_temporary(&attempt(7, 1)).unwrap();
            assert!(is_temporary(parts.file_name().unwrap()));
            assert_eq!(parts_of_temporary(&attempt(7, 23)).as_ref(), Some(&parts));
            assert_ne!(parts_of_temporary(&attempt(8, 1)).as_ref(), Some(&parts));
            let other = temporary_of(Path::new(output), "ffffffff", 7, 1);
            assert_ne!(parts_of_temporary(&other).as_ref(), Some(&parts), "another daemon's");
        }
        assert_eq!(parts_of_temporary(Path::new("/out/a.7.1.mp4")), None);
        assert_eq!(parts_of_temporary(Path::new("/")), None);
    }

    #[test]
    fn temporary_names_are_known_again_and_differ_by_attempt() {
        let output = Path::new("/out/a_slow2x.mp4");
        let first = temporary(output, 7, 1);
        assert_eq!(first, Path::new("/out/.a_slow2x.7.1.slomod-tmp.mp4"));
        assert_ne!(first, temporary(output, 7, 2));
        let tagged = temporary_of(output, "1a2b3c4d", 7, 1);
        assert_eq!(tagged, Path::new("/out/.a_slow2x.1a2b3c4d.7.1.slomod-tmp.mp4"));
        assert!(is_temporary(first.file_name().unwrap()));
        let report = temporary_report(&report_path(output));
        assert!(is_temporary(report.file_name().unwrap()));
        assert!(!is_temporary(OsStr::new("a_slow2x.mp4")));
    }
}
