//! Opens a clip safely and says what it is.

use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::path::Path;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::Input;
use ffmpeg::media::Type;
use num_rational::Ratio;

use super::MediaError;
use super::clip::{ClipInfo, ColorTags, VideoInfo};
use super::orientation;
use super::original;
use super::picture::{self, Layout};
use super::raw::{self, StreamFacts};
use super::raw_input;
use super::stream_info::stream_info;
use super::tags;
use super::webm_alpha;
use crate::frame::{PictureFormat, Rate, Seconds};

/// Demuxers that a clip may be opened with (FFmpeg's names), all others are refused. None of them opens another file.
/// First those of the extensions that a configuration takes by default, then plain streams and two formats of studios.
const DEMUXERS: &[&str] = &[
    "mov",       // mp4, m4v, mov, 3gp
    "matroska",  // mkv, webm
    "avi",       // avi
    "mpegts",    // ts, mts, m2ts
    "mpeg",      // mpg, mpeg
    "mpegvideo", // mpg, mpeg without sound
    "asf",       // wmv
    "flv",       // flv
    "ogg",       // ogv
    "mxf",       // mxf
    "h264",
    "hevc",
    "m4v",
    "obu",
    "ivf",
    "nut",
    "yuv4mpegpipe",
];

/// Common demuxers of sound.
const SOUND: &[&str] =
    &["aac", "ac3", "aiff", "amr", "ape", "caf", "eac3", "flac", "mp3", "w64", "wav", "wv"];

/// Demuxers of lists that name other files or addresses.
const PLAYLISTS: &[&str] =
    &["applehttp", "concat", "concatf", "dash", "hls", "imf", "rtsp", "sdp", "vapoursynth"];

/// How lists that name other files begin.
const PLAYLIST_TEXT: &[&[u8]] =
    &[b"#EXTM3U", b"ffconcat", b"file ", b"v=0", b"[playlist]", b"#EXT-X-", b"<asx", b"<MPD"];

/// Longest side of a picture.
const MAX_SIDE_PX: u32 = 16_384;

/// Most samples of a picture's luma: 12K fits.
pub(super) const MAX_PIXELS: u64 = 1 << 27;

/// Most streams: every attached font of a subtitled film is one.
const MAX_STREAMS: i32 = 256;

/// Rates outside are taken for nonsense in a header.
const SANE_RATES: std::ops::RangeInclusive<i128> = 1..=1_000;

pub(super) fn unusable(path: &Path, code: &'static str, reason: impl Into<String>) -> MediaError {
    MediaError::Unusable { path: path.to_owned(), code, reason: reason.into() }
}

pub(super) fn read_error(path: &Path, source: std::io::Error) -> MediaError {
    MediaError::Read { path: path.to_owned(), source }
}

/// An open clip: the demuxer at its first packet, what the clip is, and how frames are handed out.
pub(super) struct Opened {
    pub(super) input: Input,
    pub(super) info: ClipInfo,
    pub(super) facts: StreamFacts,
    pub(super) layout: Layout,
    /// Whether frames get their transparency from what lies beside their packets.
    pub(super) alpha_beside: bool,
    /// Frames that the container's index shows, where it has an exact one.
    pub(super) indexed_frames: Option<u64>,
}

/// Opens and describes a clip.
pub(super) fn open(path: &Path) -> Result<Opened, MediaError> {
    let mut input = open_container(path)?;
    let format = container_name(&input);
    let all: Vec<StreamFacts> =
        (0..input.streams().count()).filter_map(|index| raw::stream_facts(&input, index)).collect();
    let streams = all.iter().map(|facts| stream_info(&input, facts)).collect();
    let chosen = choose_video(&all).ok_or_else(|| {
        unusable(path, "not_video", "it has no moving picture (sound or a still picture only)")
    })?;
    let mut facts = raw::stream_facts(&input, chosen).ok_or_else(|| {
        unusable(path, "not_video", "its video stream has gone while it was being opened")
    })?;
    let mut alpha_beside = webm_alpha::is_beside(&input, &facts);
    if alpha_beside {
        facts.pixel = facts.pixel.map(|it| webm_alpha::with_alpha(it).unwrap_or(it));
    }
    let (pixel, layout) = pixel_layout(path, &facts)?;
    let indexed_frames =
        if format.starts_with("mov") { exact_index(&mut input, &facts) } else { None };
    let mut warnings = layout.warnings.clone();
    if alpha_beside && !layout.alpha {
        let message = format!("no pixel format joins its transparency to {pixel}: it is dropped");
        warnings.push(("alpha_dropped".to_owned(), message));
        alpha_beside = false;
    }
    let video = video_info(&input, &facts, &layout, &pixel, indexed_frames);
    let picture = video.picture;
    warnings.extend(picture::assumed(facts.tags.matrix, picture.chroma, picture.matrix));
    let tags = tags::tags(&input, facts.index);
    let info = ClipInfo { path: path.to_owned(), format, video, streams, tags, warnings };
    Ok(Opened { input, info, facts, layout, alpha_beside, indexed_frames })
}

/// Opens the container alone, after the checks that keep other files and huge pictures out.
pub(super) fn open_container(path: &Path) -> Result<Input, MediaError> {
    super::quiet();
    let metadata = fs::metadata(path).map_err(|error| read_error(path, error))?;
    if !metadata.is_file() {
        return Err(unusable(path, "not_video", "it is no regular file"));
    }
    if metadata.len() == 0 {
        return Err(unusable(path, "empty", "it has no content"));
    }
    let start = first_bytes(path).map_err(|error| read_error(path, error))?;
    if is_playlist(&start) {
        return Err(playlist(path));
    }
    let url = raw_input::file_url(path).map_err(|error| read_error(path, error))?;
    let demuxer = raw_input::sniff(&url).map_err(|error| unreadable(path, &start, error))?;
    let name = demuxer.name();
    let any_of = |list: &[&str]| name.split(',').any(|it| list.contains(&it));
    if any_of(PLAYLISTS) {
        return Err(playlist(path));
    }
    if !any_of(DEMUXERS) {
        return Err(unusable(path, "not_video", foreign(&name)));
    }
    let allowed = CString::new(DEMUXERS.join(",")).unwrap_or_default();
    let mut input = raw_input::open_input(&url, demuxer, &allowed, MAX_STREAMS)
        .map_err(|error| unreadable(path, &start, error))?;
    check_sizes(path, &input)?;
    check_counts(path, &input, metadata.len())?;
    raw_input::find_streams(&mut input, MAX_PIXELS)
        .map_err(|error| unreadable(path, &start, error))?;
    check_sizes(path, &input)?;
    Ok(input)
}

/// What content that the demuxer `name` is for is, and what can be made of it.
fn foreign(name: &str) -> String {
    if let Some(kind) = name.strip_suffix("_pipe") {
        return format!(
            "it is a picture ({kind}), or pictures behind each other: slomod convert takes numbered pictures, each a file; of others \
             make a clip first"
        );
    }
    match name {
        "gif" | "apng" => format!(
            "it is an animated picture ({name}): make a clip of it first (ffmpeg -i FILE -c:v ffv1 FILE.mkv keeps every pixel)"
        ),
        _ if SOUND.contains(&name) => format!("it is sound alone ({name})"),
        _ => format!(
            "its content is {name}, which is not among the containers that are opened: if it is a clip, put it into another first \
             (ffmpeg -i FILE -c copy FILE.mkv)"
        ),
    }
}

fn first_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    original::open(path)?.take(64).read_to_end(&mut start)?;
    Ok(start)
}

fn is_playlist(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start).trim_ascii_start();
    PLAYLIST_TEXT
        .iter()
        .any(|text| start.get(..text.len()).is_some_and(|found| found.eq_ignore_ascii_case(text)))
}

fn playlist(path: &Path) -> MediaError {
    let reason = "it is a list that names other files; drop the clips themselves";
    unusable(path, "playlist_refused", reason)
}

/// Why FFmpeg cannot open the container.
fn unreadable(path: &Path, start: &[u8], error: ffmpeg::Error) -> MediaError {
    if error == (ffmpeg::Error::Other { errno: ffmpeg::error::ENOMEM }) {
        let reason = format!(
            "its headers ask for more memory or streams than any clip needs (the most is {MAX_STREAMS} streams)"
        );
        return unusable(path, "too_large", reason);
    }
    if let Some(system) = raw::system_error(error) {
        return read_error(path, system);
    }
    let mp4 = matches!(
        start.get(4..8),
        Some(b"ftyp" | b"mdat" | b"free" | b"wide" | b"skip" | b"moov" | b"pnot")
    );
    if mp4 {
        let reason =
            "the index (moov) is missing or damaged: the recording or the copy was cut short";
        return unusable(path, "moov_missing", reason);
    }
    let reason = "it is no video, or of a kind that the installed FFmpeg does not know";
    unusable(path, "not_video", reason)
}

fn check_sizes(path: &Path, input: &Input) -> Result<(), MediaError> {
    for index in 0..input.streams().count() {
        let Some(facts) = raw::stream_facts(input, index) else { continue };
        if facts.kind != Type::Video {
            continue;
        }
        check_size(path, facts.width.unsigned_abs(), facts.height.unsigned_abs())?;
    }
    Ok(())
}

/// Refuses an index of more frames than the file has bytes.
fn check_counts(path: &Path, input: &Input, bytes: u64) -> Result<(), MediaError> {
    let counts = (0..input.streams().count()).map(|index| raw::index_entries(input, index));
    match counts.max().filter(|most| *most > bytes) {
        None => Ok(()),
        Some(frames) => {
            let reason = format!("its index has {frames} frames, more than the file has bytes");
            Err(unusable(path, "too_many_frames", reason))
        }
    }
}

/// Refuses pictures too large to be held.
pub(super) fn check_size(path: &Path, width: u32, height: u32) -> Result<(), MediaError> {
    if width > MAX_SIDE_PX
        || height > MAX_SIDE_PX
        || u64::from(width) * u64::from(height) > MAX_PIXELS
    {
        let reason = format!(
            "its pictures are {width}x{height}; the most is {MAX_SIDE_PX} a side and {MAX_PIXELS} in all"
        );
        return Err(unusable(path, "too_large", reason));
    }
    Ok(())
}

fn container_name(input: &Input) -> String {
    input.format().name().to_owned()
}

/// The moving picture to work: marked as default before others, then the largest, then the first.
fn choose_video(all: &[StreamFacts]) -> Option<usize> {
    let still = ffi::AV_DISPOSITION_ATTACHED_PIC
        | ffi::AV_DISPOSITION_TIMED_THUMBNAILS
        | ffi::AV_DISPOSITION_STILL_IMAGE;
    all.iter()
        .filter(|it| it.kind == Type::Video && it.disposition & still == 0)
        .max_by_key(|it| {
            let default = it.disposition & ffi::AV_DISPOSITION_DEFAULT != 0;
            (default, i64::from(it.width) * i64::from(it.height), std::cmp::Reverse(it.index))
        })
        .map(|it| it.index)
}

fn pixel_layout(path: &Path, facts: &StreamFacts) -> Result<(String, Layout), MediaError> {
    if facts.width < 1 || facts.height < 1 {
        return Err(unusable(path, "not_video", "its video stream has no readable picture"));
    }
    let codec = &facts.codec;
    let pixel = facts.pixel.ok_or_else(|| {
        let reason = format!("its video ({codec}) cannot be decoded by this FFmpeg");
        unusable(path, "not_decodable", reason)
    })?;
    let name = raw::pixel_facts(pixel).map(|it| it.name).unwrap_or_default();
    let layout = picture::layout(pixel).ok_or_else(|| {
        unusable(path, "pixel_format", format!("pictures of format {name} cannot be worked"))
    })?;
    Ok((name, layout))
}

/// Frames of a MOV index, less those that its edit list hides; none for fragmented files.
fn exact_index(input: &mut Input, facts: &StreamFacts) -> Option<u64> {
    facts.frames?;
    raw::indexed_frames(input, facts.index)
}

fn video_info(
    input: &Input,
    facts: &StreamFacts,
    layout: &Layout,
    pixel: &str,
    indexed_frames: Option<u64>,
) -> VideoInfo {
    let (width_px, height_px) =
        (facts.width.unsigned_abs() as usize, facts.height.unsigned_abs() as usize);
    let rate = sane_rate(facts.average_rate).or_else(|| sane_rate(facts.base_rate));
    let duration = facts.duration.or_else(|| raw::container_facts(input).duration_guess);
    let estimate = || u64::try_from((duration? * rate?).round().to_integer()).ok();
    let [matrix, primaries, transfer, range] = raw::tag_names(&facts.tags);
    let ratio = facts.sample_aspect_ratio;
    let display_matrix = orientation::of_stream(input, facts.index);
    let shown = display_matrix.map_or((0, false), |it| orientation::orientation(&it));
    VideoInfo {
        stream_index: facts.index,
        codec: facts.codec.clone(),
        picture: PictureFormat {
            width_px,
            height_px,
            chroma: layout.chroma,
            matrix: picture::matrix(facts.tags.matrix, height_px),
            range: picture::range(facts.tags.range, layout),
            depth: layout.depth,
        },
        alpha: layout.alpha,
        pixel_format: pixel.to_owned(),
        rotation_degrees: shown.0,
        mirrored: shown.1,
        display_matrix,
        hdr: raw::stream_hdr(input, facts.index),
        sample_aspect_ratio: match raw::positive(ratio) {
            Some(_) => (ratio.numerator(), ratio.denominator()),
            None => (1, 1),
        },
        color: ColorTags { matrix, primaries, transfer, range },
        claimed_rate: rate,
        base_rate: sane_rate(facts.base_rate),
        rate,
        frames_promised: indexed_frames.or(facts.frames).or_else(estimate),
        duration,
        end: end(input, facts, indexed_frames),
    }
}

/// Where the last frame ends by the header. Packets say that in no container where frames are stored in another order than
/// they are shown, and never in Matroska, whose header knows the end of all streams together.
fn end(input: &Input, facts: &StreamFacts, indexed_frames: Option<u64>) -> Option<Seconds> {
    let is_alone = || input.streams().count() == 1 && container_name(input).contains("matroska");
    match indexed_frames {
        Some(_) => Some(facts.start? + facts.duration?),
        // Makers of files that begin later do not agree on whether it counts from there.
        None if is_alone() && facts.start == Some(Seconds::default()) => {
            raw::container_facts(input).duration
        }
        None => None,
    }
}

fn sane_rate(rate: ffmpeg::Rational) -> Option<Rate> {
    let rate = raw::positive(rate)?;
    let bounds = (Ratio::from_integer(*SANE_RATES.start()), Ratio::from_integer(*SANE_RATES.end()));
    (rate >= bounds.0 && rate <= bounds.1).then_some(rate)
}
