//! Raw file → [`Config`]: every rule that serde cannot express, each with the place and a way out.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use num_rational::Ratio;
use toml::Spanned;

use crate::config::apart::{self, Key, Places};
use crate::config::beside::Beside;
use crate::config::content::{Content, Mask};
use crate::config::file::{
    Collision, Config, Daemon, Depth, OnSuccess, Ready, SameContent, Watch, WatchBy,
};
use crate::config::raw::{
    OrAuto, RawCollision, RawDaemon, RawFile, RawOnSuccess, RawWatch, Scalar,
};
use crate::config::service::{control, hook, metrics};
use crate::config::settings::{
    Codec, EncodeOn, Encoding, FACTOR_RANGE, FPS_RANGE, Mode, Profile, Scale, Settings,
    parse_passes, parse_threads,
};
use crate::frame::rational_text;

/// A wrong value and its byte offset in the file.
#[derive(Debug)]
pub struct Problem {
    pub offset: usize,
    pub message: String,
}

pub(super) type Checked<T> = Result<T, Problem>;

/// Longest duration that a key may have: a longer one is a slip of the pen.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Priorities that a folder may have.
const PRIORITIES: std::ops::RangeInclusive<i32> = -100..=100;
pub(super) fn wrong<T, V>(at: &Spanned<V>, message: String) -> Checked<T> {
    Err(Problem { offset: at.span().start, message })
}

/// Checks everything.
pub fn check(raw: RawFile) -> Checked<Config> {
    let daemon = daemon(raw.daemon)?;
    if raw.watch.is_empty() {
        let message = "no folder to watch: add a [[watch]] with path and output".into();
        return Err(Problem { offset: 0, message });
    }
    let watches =
        raw.watch.iter().map(|each| watch(&daemon, each.get_ref())).collect::<Checked<Vec<_>>>()?;
    let places: Vec<_> = watches.iter().map(Places::of).collect();
    for (index, each) in raw.watch.iter().enumerate() {
        let Some((key, message)) = apart::overlap(&places, index) else { continue };
        let raw = each.get_ref();
        let at = match (key, &raw.originals) {
            (Key::Originals, Some(at)) => at,
            (Key::Output, _) => &raw.output,
            _ => &raw.path,
        };
        return wrong(at, message);
    }
    let hooks = raw.hook.iter().map(hook).collect::<Checked<Vec<_>>>()?;
    Ok(Config { daemon, watches, hooks })
}

fn daemon(raw: RawDaemon) -> Checked<Daemon> {
    let default = Daemon::default();
    let time = |key, value: &Option<Spanned<String>>, default| match value {
        None => Ok(default),
        Some(text) => duration(key, text),
    };
    Ok(Daemon {
        state_dir: match &raw.state_dir {
            None => default.state_dir,
            Some(text) => absolute("state_dir", text)?,
        },
        device: raw.device.map_or(default.device, Spanned::into_inner),
        model: model(&raw.model, default.model)?,
        threads: threads(&raw.threads)?.unwrap_or(default.threads),
        settle: time("settle", &raw.settle, default.settle)?,
        network_settle: time("network_settle", &raw.network_settle, default.network_settle)?,
        unsized_settle: time("unsized_settle", &raw.unsized_settle, default.unsized_settle)?,
        scan_interval: time("scan_interval", &raw.scan_interval, default.scan_interval)?,
        poll_interval: time("poll_interval", &raw.poll_interval, default.poll_interval)?,
        grace: time("grace", &raw.grace, default.grace)?,
        stall_timeout: time("stall_timeout", &raw.stall_timeout, default.stall_timeout)?,
        stop_timeout: time("stop_timeout", &raw.stop_timeout, default.stop_timeout)?,
        reserve_bytes: match &raw.reserve {
            None => default.reserve_bytes,
            Some(text) => bytes(text)?,
        },
        extensions: match &raw.extensions {
            None => default.extensions,
            Some(list) => extensions(list)?,
        },
        control: raw.control.as_ref().map_or(Ok(None), control)?,
        metrics: raw.metrics.as_ref().map_or(Ok(None), metrics)?,
    })
}

fn watch(daemon: &Daemon, raw: &RawWatch) -> Checked<Watch> {
    Ok(Watch {
        path: absolute("path", &raw.path)?,
        output: absolute("output", &raw.output)?,
        settings: settings(daemon, raw)?,
        settle: match &raw.settle {
            Some(text) if text.get_ref() != "auto" => Some(duration("settle", text)?),
            _ => None,
        },
        depth: match raw.recursive.as_ref().map(|it| *it.get_ref()) {
            Some(true) => Depth::Recursive,
            _ => Depth::Flat,
        },
        priority: priority(&raw.priority)?,
        watch_by: raw.watch_by.as_ref().map_or(WatchBy::Auto, |it| *it.get_ref()),
        ready: raw.ready.as_ref().map_or(Ready::Settle, |it| *it.get_ref()),
        marker: raw.marker.as_ref().map(marker).transpose()?,
        links_to: match &raw.links_to {
            None => Vec::new(),
            Some(list) => list
                .get_ref()
                .iter()
                .map(|folder| absolute("links_to", folder))
                .collect::<Checked<_>>()?,
        },
        collision: match raw.collision.as_ref().map(|it| *it.get_ref()) {
            Some(RawCollision::Overwrite) => Collision::Overwrite,
            Some(RawCollision::Skip) => Collision::Skip,
            Some(RawCollision::Rename) | None => Collision::Rename,
        },
        same_content: raw.same_content.as_ref().map_or(SameContent::Refer, |it| *it.get_ref()),
        on_success: on_success(raw)?,
    })
}

fn priority(value: &Option<Spanned<i32>>) -> Checked<i32> {
    match value {
        None => Ok(0),
        Some(at) if PRIORITIES.contains(at.get_ref()) => Ok(*at.get_ref()),
        Some(at) => wrong(at, format!("`priority` is {}: use -100 to 100", at.get_ref())),
    }
}

fn settings(daemon: &Daemon, raw: &RawWatch) -> Checked<Settings> {
    let profile = raw.profile.as_ref().map_or(Profile::Standard, |it| *it.get_ref());
    let default = profile.settings();
    let mode = raw.mode.as_ref().map_or(default.mode, |it| *it.get_ref());
    let fps = ratio("fps", &raw.fps, rational_text::parse)?;
    if let (Some(value), Some(at)) = (fps, &raw.fps)
        && (value < Ratio::from(*FPS_RANGE.start()) || value > Ratio::from(*FPS_RANGE.end()))
    {
        return wrong(at, format!("`fps` is {value}: use auto or 10 to 320"));
    }
    let speed = speed(mode, raw)?;
    let factor = match raw.factor.as_ref().filter(|it| it.get_ref().0 != "auto") {
        Some(at) => {
            let text = &at.get_ref().0;
            match text.parse().ok().filter(|it| FACTOR_RANGE.contains(it)) {
                Some(value) => Some(value),
                None => {
                    return wrong(
                        at,
                        format!("`factor` is {text}: use auto or a whole number, 2 to 16"),
                    );
                }
            }
        }
        None if speed.is_some() || (mode == Mode::Smooth && fps.is_some()) => None,
        None => Some(mode.default_factor()),
    };
    if let (Mode::Smooth, Some(at), Some(_), Some(_)) = (mode, &raw.fps, fps, factor) {
        let message = "`fps` and `factor` both set the rate in mode smooth: give one of them";
        return wrong(at, message.into());
    }
    Ok(Settings {
        profile,
        mode,
        factor,
        fps,
        speed,
        model: model(&raw.model, daemon.model.clone())?,
        scale: scale(&raw.scale)?,
        sampling: raw.sampling.unwrap_or_default(),
        refine: raw.refine.unwrap_or(default.refine),
        passes: passes(&raw.passes)?.unwrap_or(default.passes),
        device: daemon.device,
        threads: daemon.threads,
        audio: raw.audio.as_ref().map_or(default.audio, |it| *it.get_ref()),
        interlaced: raw.interlaced.as_ref().map_or(default.interlaced, |it| *it.get_ref()),
        timelapse: raw.timelapse.as_ref().map_or(default.timelapse, |it| *it.get_ref()),
        encoding: encoding(default.encoding.codec, raw)?,
        quality_samples: raw
            .quality_samples
            .as_ref()
            .map_or(default.quality_samples, |it| *it.get_ref()),
        vmaf: raw.vmaf.as_ref().map_or(default.vmaf, |it| *it.get_ref()),
        content: content(default.content, raw)?,
        beside: beside(default.beside, raw)?,
    })
}

fn beside(default: Beside, raw: &RawWatch) -> Checked<Beside> {
    let stills = match &raw.stills {
        None => default.stills,
        Some(list) => {
            let still = |at: &Spanned<Scalar>| match at.get_ref().0.parse() {
                Ok(still) => Ok(still),
                Err(message) => wrong(at, message),
            };
            list.get_ref().iter().map(still).collect::<Checked<_>>()?
        }
    };
    Ok(Beside {
        frame_list: raw.frame_list.as_ref().map_or(default.frame_list, |it| *it.get_ref()),
        comparison: raw.comparison.as_ref().map_or(default.comparison, |it| *it.get_ref()),
        page: raw.page.as_ref().map_or(default.page, |it| *it.get_ref()),
        stills,
    })
}

fn content(default: Content, raw: &RawWatch) -> Checked<Content> {
    let hold_below = match unless_auto(&raw.hold_below) {
        None => default.hold_below,
        Some((at, text)) => match text.parse::<f64>() {
            Ok(0.0) => None,
            Ok(limit) if (0.0..=1.0).contains(&limit) => Some(limit),
            _ => return wrong(at, format!("`hold_below` is {text}: use auto, or 0 (never) to 1")),
        },
    };
    let mut masks = Vec::new();
    for text in raw.masks.iter().flat_map(|it| it.get_ref()) {
        match text.get_ref().parse::<Mask>() {
            Ok(mask) => masks.push(mask),
            Err(message) => return wrong(text, message),
        }
    }
    let cut_list = raw.cut_list.as_ref().filter(|it| it.get_ref() != "none");
    let cut_list = match cut_list {
        None => None,
        Some(at) => {
            let (text, letters) = (at.get_ref(), at.get_ref().strip_prefix('.'));
            let is_ending = letters.is_some_and(|it| !it.is_empty() && !it.contains(['/', '.']));
            if !is_ending && !Path::new(text).is_absolute() {
                let message = format!(
                    "`cut_list` is `{text}`: use none, an ending as \".cuts\" (of a file beside the clip), or an \
                     absolute path"
                );
                return wrong(at, message);
            }
            Some(PathBuf::from(text))
        }
    };
    Ok(Content {
        find_cuts: raw.find_cuts.as_ref().map_or(default.find_cuts, |it| *it.get_ref()),
        cut_list,
        duplicates: raw.duplicates.as_ref().map_or(default.duplicates, |it| *it.get_ref()),
        hold_below,
        masks,
        overlays: raw.overlays.as_ref().map_or(default.overlays, |it| *it.get_ref()),
        mark: raw.mark.as_ref().map_or(default.mark, |it| *it.get_ref()),
    })
}

fn speed(mode: Mode, raw: &RawWatch) -> Checked<Option<Ratio<i128>>> {
    let value = ratio("speed", &raw.speed, rational_text::parse_speed)?;
    let (Some(value), Some(at)) = (value, &raw.speed) else { return Ok(None) };
    if mode == Mode::Smooth {
        return wrong(at, "`speed` is for mode slow: mode smooth keeps the duration".into());
    }
    if raw.factor.as_ref().is_some_and(|it| it.get_ref().0 != "auto") {
        return wrong(at, "`speed` and `factor` say the same: give one of them".into());
    }
    if value < Ratio::new(1, 16) || value >= Ratio::from(1) {
        return wrong(at, format!("`speed` is {value}: use 1/16 or more, and less than 1"));
    }
    Ok(Some(value))
}

fn encoding(default: Codec, raw: &RawWatch) -> Checked<Encoding> {
    let codec = raw.codec.as_ref().map_or(default, |it| *it.get_ref());
    let container = raw.container.as_ref().and_then(|at| match at.get_ref() {
        OrAuto::Auto => None,
        OrAuto::Value(value) => Some(*value),
    });
    let encode_on = raw.encode_on.as_ref().map_or(EncodeOn::default(), |it| *it.get_ref());
    let preset = unless_auto(&raw.preset).map(|(_, text)| text.to_owned());
    let mut encoding = Encoding { codec, encode_on, crf: None, preset, container };
    encoding.crf = match unless_auto(&raw.crf) {
        None => None,
        Some((at, text)) => match text.parse() {
            Ok(value) => Some(value),
            Err(_) => {
                let range = encoding.crf_range();
                let range = range.map_or_else(String::new, |(a, b)| format!(" or {a} to {b}"));
                return wrong(at, format!("`crf` is {text}: use auto{range}"));
            }
        },
    };
    let Some(found) = encoding.contradiction(container) else { return Ok(encoding) };
    let at = match found.setting {
        "container" => raw.container.as_ref().map(|at| at.span().start),
        "encode_on" => raw.encode_on.as_ref().map(|at| at.span().start),
        "crf" => raw.crf.as_ref().map(|at| at.span().start),
        _ => raw.preset.as_ref().map(|at| at.span().start),
    };
    Err(Problem { offset: at.unwrap_or_default(), message: found.message })
}

fn on_success(raw: &RawWatch) -> Checked<OnSuccess> {
    let word = raw.on_success.as_ref().map(|it| *it.get_ref());
    match (word, &raw.originals) {
        (Some(RawOnSuccess::Move), Some(folder)) => {
            Ok(OnSuccess::Move(absolute("originals", folder)?))
        }
        (Some(RawOnSuccess::Move), None) => {
            let at = raw.on_success.as_ref().map_or(0, |it| it.span().start);
            let message = "`on_success = \"move\"` needs `originals`: the folder to move to";
            Err(Problem { offset: at, message: message.into() })
        }
        (_, Some(folder)) => {
            wrong(folder, "`originals` is for `on_success = \"move\"` only".into())
        }
        (Some(RawOnSuccess::Trash), None) => Ok(OnSuccess::Trash),
        (Some(RawOnSuccess::Keep) | None, None) => Ok(OnSuccess::Keep),
    }
}

fn marker(text: &Spanned<String>) -> Checked<PathBuf> {
    let path = Path::new(text.get_ref());
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    if text.get_ref().is_empty() || !is_below {
        let found = text.get_ref();
        return wrong(text, format!("`marker` is `{found}`: use a path below the watched folder"));
    }
    Ok(path.to_owned())
}

pub(super) fn absolute(key: &str, text: &Spanned<String>) -> Checked<PathBuf> {
    let path = Path::new(text.get_ref());
    if !path.is_absolute() {
        return wrong(text, format!("`{key}` is `{}`: use an absolute path", text.get_ref()));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return wrong(text, format!("`{key}` is `{}`: write it without `..`", text.get_ref()));
    }
    // Collecting drops trailing slashes and `.`, so that equal folders compare equal.
    Ok(path.components().collect())
}

/// `auto` keeps `inherited`. The word `blend` is the trivial engine, for tests of everything around the network.
fn model(value: &Option<Spanned<String>>, inherited: Option<PathBuf>) -> Checked<Option<PathBuf>> {
    match value {
        Some(at) if at.get_ref() == "blend" => Ok(Some("blend".into())),
        Some(at) if at.get_ref() != "auto" => absolute("model", at).map(Some),
        _ => Ok(inherited),
    }
}

fn unless_auto(value: &Option<Spanned<Scalar>>) -> Option<(&Spanned<Scalar>, &str)> {
    value.as_ref().map(|at| (at, at.get_ref().0.as_str())).filter(|(_, text)| *text != "auto")
}

fn ratio(
    key: &str,
    value: &Option<Spanned<Scalar>>,
    parse: fn(&str) -> Result<Ratio<i128>, String>,
) -> Checked<Option<Ratio<i128>>> {
    match unless_auto(value) {
        None => Ok(None),
        Some((at, text)) => match parse(text) {
            Ok(number) => Ok(Some(number)),
            Err(message) => wrong(at, format!("`{key}`: {message}, or auto")),
        },
    }
}

fn passes(value: &Option<Spanned<Scalar>>) -> Checked<Option<u32>> {
    let Some(at) = value else { return Ok(None) };
    match parse_passes(&at.get_ref().0) {
        Ok(passes) => Ok(Some(passes)),
        Err(message) => wrong(at, format!("`passes` is {}: {message}", at.get_ref().0)),
    }
}

fn threads(value: &Option<Spanned<Scalar>>) -> Checked<Option<usize>> {
    let Some(at) = value else { return Ok(None) };
    match parse_threads(&at.get_ref().0) {
        Ok(threads) => Ok(Some(threads)),
        Err(message) => wrong(at, format!("`threads` is {}: {message}", at.get_ref().0)),
    }
}

fn scale(value: &Option<Spanned<Scalar>>) -> Checked<Scale> {
    match unless_auto(value) {
        None => Ok(Scale::Auto),
        Some((at, text)) => match text {
            "0.25" => Ok(Scale::Fixed(0.25)),
            "0.5" => Ok(Scale::Fixed(0.5)),
            "1" | "1.0" => Ok(Scale::Fixed(1.0)),
            "2" | "2.0" => Ok(Scale::Fixed(2.0)),
            _ => wrong(at, format!("`scale` is {text}: use auto, 0.25, 0.5, 1 or 2")),
        },
    }
}

pub(super) fn duration(key: &str, text: &Spanned<String>) -> Checked<Duration> {
    match humantime::parse_duration(text.get_ref()) {
        Ok(time) if !time.is_zero() && time <= LONGEST => Ok(time),
        Ok(_) => wrong(text, format!("`{key}`: use more than 0 and at the most 7 days")),
        Err(error) => {
            let found = text.get_ref();
            wrong(text, format!("`{key}` is `{found}`: {error}; write 300ms, 5s, 10m or 1h"))
        }
    }
}

fn bytes(text: &Spanned<Scalar>) -> Checked<u64> {
    let found = text.get_ref().0.trim();
    let digits = found.find(|c: char| !c.is_ascii_digit()).unwrap_or(found.len());
    let (number, unit) = found.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        "TiB" => Some(40),
        _ => None,
    };
    let value = number.parse::<u64>().ok().zip(shift);
    match value.and_then(|(number, shift)| number.checked_mul(1 << shift)) {
        Some(bytes) => Ok(bytes),
        None => wrong(text, format!("`reserve` is `{found}`: write 500MiB or 1GiB")),
    }
}

fn extensions(list: &Spanned<Vec<String>>) -> Checked<Vec<String>> {
    for word in list.get_ref() {
        let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain {
            let message =
                format!("`extensions` holds `{word}`: write them without dot, as \"mp4\"");
            return wrong(list, message);
        }
    }
    Ok(list.get_ref().iter().map(|word| word.to_ascii_lowercase()).collect())
}
