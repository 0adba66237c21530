//! Safe wrappers for what ffmpeg-next lacks on outputs: files by bytes of a path, streams, metadata, chapters.

use std::ffi::{CStr, CString};
use std::ptr;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::{Input, Output};
use num_rational::Ratio;

use super::clip::Hdr;
use super::labels;
use super::raw::{check, ticks, time_base};
use crate::config::settings::Container;
use crate::frame::Seconds;

/// Puts bytes of that kind on an output stream.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn set_stream_data(
    output: &mut Output,
    index: usize,
    kind: ffi::AVPacketSideDataType,
    bytes: &[u8],
) {
    let Some(mut stream) = output.stream_mut(index) else { return };
    // SAFETY: the stream belongs to the open context, which is borrowed.
    let data = unsafe { ffi::av_stream_new_side_data(stream.as_mut_ptr(), kind, bytes.len()) };
    if !data.is_null() {
        // SAFETY: FFmpeg allocated that many bytes, which nobody else knows yet.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), data, bytes.len()) };
    }
}

/// Puts a display matrix on an output stream.
pub(super) fn set_display_matrix(output: &mut Output, index: usize, matrix: [i32; 9]) {
    let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX;
    let bytes: Vec<u8> = matrix.iter().flat_map(|it| it.to_ne_bytes()).collect();
    set_stream_data(output, index, kind, &bytes);
}

/// Puts HDR10's metadata on an output stream.
pub(super) fn set_hdr(output: &mut Output, index: usize, hdr: &Hdr) {
    use ffi::AVPacketSideDataType as T;
    for (kind, bytes) in [
        (T::AV_PKT_DATA_MASTERING_DISPLAY_METADATA, &hdr.mastering_display),
        (T::AV_PKT_DATA_CONTENT_LIGHT_LEVEL, &hdr.content_light),
    ] {
        if let Some(bytes) = bytes {
            set_stream_data(output, index, kind, bytes);
        }
    }
}

/// Creates (or empties) the file behind `url` and a muxer for it.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn create_output(url: &CStr, muxer: &CStr) -> Result<Output, ffmpeg::Error> {
    let mut context = ptr::null_mut();
    // SAFETY: `context` receives the new context; the names are C strings that are copied.
    check(unsafe {
        ffi::avformat_alloc_output_context2(
            &raw mut context,
            ptr::null(),
            muxer.as_ptr(),
            url.as_ptr(),
        )
    })?;
    // SAFETY: the new context is handed over to its owner, who frees it on every path.
    let mut output = unsafe { Output::wrap(context) };
    // SAFETY: the context is alive.
    let io = unsafe { &raw mut (*output.as_mut_ptr()).pb };
    // SAFETY: `io` is the context's null byte stream and receives the open one.
    check(unsafe { ffi::avio_open(io, url.as_ptr(), ffi::AVIO_FLAG_WRITE) })?;
    Ok(output)
}

/// Flushes and closes the file of an output, with the first error that writing met.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn close_output(output: &mut Output) -> Result<(), ffmpeg::Error> {
    // SAFETY: the context is alive.
    let io = unsafe { &raw mut (*output.as_mut_ptr()).pb };
    // SAFETY: closes the byte stream and sets the context's pointer to null, which its owner allows.
    check(unsafe { ffi::avio_closep(io) }).map(|_| ())
}

/// MP4's name of HEVC whose headers stand in the container alone, as here. FFmpeg's own choice is `hev1`, which
/// allows them in the stream as well, and which Apple's players do not take.
const HVC1: u32 = u32::from_le_bytes(*b"hvc1");

/// Adds a stream with a copy of `parameters`, the container's own tag, and a wish for its clock.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn add_stream(
    output: &mut Output,
    parameters: &ffmpeg::codec::Parameters,
    time_base: ffmpeg::Rational,
) -> Result<usize, ffmpeg::Error> {
    let is_mov_family = matches!(output.format().name(), "mp4" | "mov");
    // SAFETY: the context is alive; a null codec is allowed.
    let stream = unsafe { ffi::avformat_new_stream(output.as_mut_ptr(), ptr::null()).as_mut() };
    let stream = stream.ok_or(ffmpeg::Error::Other { errno: ffmpeg::error::ENOMEM })?;
    // SAFETY: both sets of parameters are alive; every stream has one.
    check(unsafe { ffi::avcodec_parameters_copy(stream.codecpar, parameters.as_ptr()) })?;
    // SAFETY: as above.
    let parameters = unsafe { &mut *stream.codecpar };
    let is_hevc = parameters.codec_id == ffi::AVCodecID::AV_CODEC_ID_HEVC;
    // Tags of other containers would be refused.
    parameters.codec_tag = if is_hevc && is_mov_family { HVC1 } else { 0 };
    stream.time_base = time_base.into();
    usize::try_from(stream.index).map_err(|_| ffmpeg::Error::Bug)
}

/// Where Opus's own header says how many samples decoders drop at the beginning, of 48000 a second whatever the sound's rate
/// (RFC 7845, section 5.1): two bytes, little-endian.
const PRE_SKIP: std::ops::Range<usize> = 10..12;
const OPUS_RATE_HZ: i128 = 48_000;

/// The parameters of an output's Opus stream, and where the pre-skip is in its header.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn opus(output: &mut Output, index: usize) -> Option<(&mut ffi::AVCodecParameters, &mut [u8])> {
    let mut stream = output.stream_mut(index)?;
    // SAFETY: every stream has parameters, which are ours, with the output, until the header is written.
    let parameters = unsafe { &mut *(*stream.as_mut_ptr()).codecpar };
    let size = usize::try_from(parameters.extradata_size).ok()?;
    if parameters.codec_id != ffi::AVCodecID::AV_CODEC_ID_OPUS || size < PRE_SKIP.end {
        return None;
    }
    // SAFETY: the header is as long as was just looked at, and lies in memory of its own.
    let header = unsafe { std::slice::from_raw_parts_mut(parameters.extradata, size) };
    Some((parameters, &mut header[PRE_SKIP]))
}

/// Seconds that an Opus stream has decoders drop at its beginning; none of other codecs.
pub(super) fn lead_in(output: &mut Output, index: usize) -> Seconds {
    let samples = opus(output, index).map_or(0, |(_, it)| u16::from_le_bytes([it[0], it[1]]));
    Seconds::new(samples.into(), OPUS_RATE_HZ)
}

/// Takes back what an Opus stream says of samples to drop at its beginning.
pub(super) fn forget_lead_in(output: &mut Output, index: usize) {
    if let Some((parameters, pre_skip)) = opus(output, index) {
        pre_skip.fill(0);
        parameters.initial_padding = 0;
    }
}

/// Sets what players read from the stream rather than from the codec.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn set_stream(
    output: &mut Output,
    index: usize,
    disposition: i32,
    rate_and_ratio: Option<(ffmpeg::Rational, ffmpeg::Rational)>,
) {
    let Some(mut stream) = output.stream_mut(index) else { return };
    // SAFETY: the stream belongs to the open context, which is borrowed.
    let raw = unsafe { &mut *stream.as_mut_ptr() };
    raw.disposition = disposition;
    if let Some((rate, ratio)) = rate_and_ratio {
        raw.avg_frame_rate = rate.into();
        raw.r_frame_rate = rate.into();
        raw.sample_aspect_ratio = ratio.into();
    }
}

/// Whether the container has a way to hold that codec.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn can_carry(output: &Output, codec: ffi::AVCodecID) -> bool {
    // SAFETY: the context is alive and its format is registered for ever.
    let format = unsafe { (*output.as_ptr()).oformat };
    // SAFETY: as above; any codec number is allowed.
    unsafe { ffi::avformat_query_codec(format, codec, ffi::FF_COMPLIANCE_NORMAL) == 1 }
}

/// Copies the entries of a dictionary that `keep` wants.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn copy_entries(
    from: *const ffi::AVDictionary,
    to: &mut *mut ffi::AVDictionary,
    keep: impl Fn(&[u8]) -> bool,
) {
    let mut entry: *mut ffi::AVDictionaryEntry = ptr::null_mut();
    loop {
        // SAFETY: `from` is null or a dictionary that does not change meanwhile; `entry` is of it, or null.
        entry = unsafe { ffi::av_dict_get(from, c"".as_ptr(), entry, ffi::AV_DICT_IGNORE_SUFFIX) };
        // SAFETY: null or an entry that lives as long as the dictionary.
        let Some(found) = (unsafe { entry.as_ref() }) else { return };
        // SAFETY: keys end with zero.
        if keep(unsafe { CStr::from_ptr(found.key) }.to_bytes()) {
            // SAFETY: key and value are C strings that are copied; `to` is null or a dictionary of the output.
            unsafe { ffi::av_dict_set(to, found.key, found.value, 0) };
        }
    }
}

/// Entries of the whole clip that would be wrong for the output.
const STALE_METADATA: &[&[u8]] =
    &[b"encoder", b"major_brand", b"minor_version", b"compatible_brands", b"timecode", b"duration"];

/// Entries of a stream that would be wrong for the output: of the source's encoder, length and clock, what a demuxer says of
/// its container, and where that keeps transparency.
const STALE_STREAM_METADATA: &[&[u8]] = &[
    b"encoder",
    b"duration",
    b"timecode",
    b"rotate",
    b"vendor_id",
    b"bps",
    b"number_of_frames",
    b"number_of_bytes",
    b"reel_name",
    b"variant_bitrate",
    b"alpha_mode",
];

/// Beginnings of such entries: Matroska's statistics.
const STALE_STREAM_PREFIXES: &[&[u8]] =
    &[b"_statistics", b"bps-", b"duration-", b"number_of_frames-", b"number_of_bytes-"];

fn is_stale_of_stream(key: &[u8]) -> bool {
    let key = key.to_ascii_lowercase();
    STALE_STREAM_METADATA.contains(&key.as_slice())
        || STALE_STREAM_PREFIXES.iter().any(|it| key.starts_with(it))
}

/// Entries that MP4 has a place for of its own (iTunes's list); `creation_time` is in its header.
const MP4_METADATA: &[&str] = &[
    "title",
    "artist",
    "album_artist",
    "composer",
    "album",
    "date",
    "comment",
    "genre",
    "copyright",
    "grouping",
    "lyrics",
    "description",
    "synopsis",
    "show",
    "episode_id",
    "network",
    "keywords",
    "creation_time",
];

/// Entries that QuickTime has a place for of its own.
const MOV_METADATA: &[&str] = &[
    "title",
    "artist",
    "author",
    "album",
    "date",
    "comment",
    "genre",
    "copyright",
    "keywords",
    "location",
    "make",
    "model",
    "creation_time",
];

/// Whether the whole output has entries that its container has no place of its own for.
pub(super) fn has_other_metadata(output: &Output, container: Container) -> bool {
    let known = match container {
        Container::Mp4 => MP4_METADATA,
        Container::Mov => MOV_METADATA,
        Container::Mkv => return false,
    };
    output.metadata().iter().any(|(key, _)| !known.contains(&key.to_ascii_lowercase().as_str()))
}

/// Keys of the source's entries that belong into the output, in lower case and without the language behind some.
pub(super) fn wanted_metadata(input: &Input) -> Vec<String> {
    let stale = |key: &str| STALE_METADATA.contains(&key.as_bytes());
    let keys = input.metadata().iter().map(|(key, _)| key.to_ascii_lowercase()).collect::<Vec<_>>();
    let without_language = |key: &String| {
        key.rsplit_once('-').is_some_and(|(plain, _)| keys.iter().any(|it| it == plain))
    };
    keys.iter().filter(|key| !stale(key) && !without_language(key)).cloned().collect()
}

/// Entries of a stream that stay true for the output.
pub(super) fn stream_metadata(input: &Input, index: usize) -> Vec<(String, String)> {
    let Some(stream) = input.stream(index) else { return Vec::new() };
    stream.metadata().iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Copies title, creation time and the like of the whole clip.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn copy_metadata(input: &Input, output: &mut Output) {
    // SAFETY: both contexts are alive and distinct.
    let (from, to) = unsafe { ((*input.as_ptr()).metadata, &mut (*output.as_mut_ptr()).metadata) };
    let stale = |key: &[u8]| STALE_METADATA.iter().any(|it| it.eq_ignore_ascii_case(key));
    copy_entries(from, to, |key| !stale(key));
}

/// Copies language, title and the like of a stream.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn copy_stream_metadata(input: &Input, from: usize, output: &mut Output, to: usize) {
    let (Some(from), Some(mut to)) = (input.stream(from), output.stream_mut(to)) else { return };
    // SAFETY: both streams belong to contexts that are alive and distinct.
    let (from, to) = unsafe { ((*from.as_ptr()).metadata, &mut (*to.as_mut_ptr()).metadata) };
    copy_entries(from, to, |key| !is_stale_of_stream(key));
}

/// Gives the languages of all streams the codes by which MOV takes them.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn name_languages_for_mov(output: &mut Output) {
    for index in 0..output.streams().count() {
        let Some(mut stream) = output.stream_mut(index) else { continue };
        let metadata = stream.metadata();
        let language = metadata.get("language").map(labels::language_in_mov).map(CString::new);
        let Some(Ok(language)) = language else { continue };
        // SAFETY: the stream belongs to the open context, which is borrowed; both texts are copied.
        unsafe {
            let metadata = &raw mut (*stream.as_mut_ptr()).metadata;
            ffi::av_dict_set(metadata, c"language".as_ptr(), language.as_ptr(), 0);
        }
    }
}

/// Copies chapters, moved by `-origin` and stretched; those that end before 0 are left out. How many those are.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn copy_chapters(
    input: &Input,
    output: &mut Output,
    origin: Seconds,
    stretch: Seconds,
) -> usize {
    let tick = Ratio::new(1, 1_000);
    let mut left_out = 0;
    for (number, chapter) in input.chapters().enumerate() {
        // SAFETY: the chapter belongs to the open context, which is borrowed.
        let from = unsafe { &*chapter.as_ptr() };
        let base = time_base(from.time_base.into());
        let place = |time: i64| ticks((base * i128::from(time) - origin) * stretch, tick).max(0);
        let (start, end) = (place(from.start), place(from.end));
        let id = i64::try_from(number).unwrap_or(i64::MAX);
        if end <= start {
            left_out += 1;
            continue;
        }
        let base = ffmpeg::Rational::new(1, 1_000);
        let Ok(mut added) = output.add_chapter(id, base, start, end, "") else {
            left_out += 1;
            continue;
        };
        // SAFETY: the chapter belongs to the output's context, which is borrowed.
        let to = unsafe { &mut (*added.as_mut_ptr()).metadata };
        // SAFETY: the dictionary is the chapter's own; null is allowed.
        unsafe { ffi::av_dict_free(to) };
        copy_entries(from.metadata, to, |_| true);
    }
    left_out
}
