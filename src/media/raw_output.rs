//! Safe wrappers for what ffmpeg-next lacks on outputs: files by bytes of a path, streams, metadata, chapters.

use std::ffi::CStr;
use std::ptr;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::{Input, Output};
use num_rational::Ratio;

use super::raw::{check, ticks, time_base};
use crate::frame::Seconds;

/// Puts a display matrix on an output stream.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn set_display_matrix(output: &mut Output, index: usize, matrix: [i32; 9]) {
    let Some(mut stream) = output.stream_mut(index) else { return };
    let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX;
    // SAFETY: the stream belongs to the open context, which is borrowed.
    let data =
        unsafe { ffi::av_stream_new_side_data(stream.as_mut_ptr(), kind, size_of::<[i32; 9]>()) };
    if !data.is_null() {
        // SAFETY: FFmpeg allocated that many bytes; alignment is not assumed.
        unsafe { data.cast::<[i32; 9]>().write_unaligned(matrix) };
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

/// Adds a stream with a copy of `parameters`, the container's own tag, and a wish for its clock.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn add_stream(
    output: &mut Output,
    parameters: &ffmpeg::codec::Parameters,
    time_base: ffmpeg::Rational,
) -> Result<usize, ffmpeg::Error> {
    // SAFETY: the context is alive; a null codec is allowed.
    let stream = unsafe { ffi::avformat_new_stream(output.as_mut_ptr(), ptr::null()).as_mut() };
    let stream = stream.ok_or(ffmpeg::Error::Other { errno: ffmpeg::error::ENOMEM })?;
    // SAFETY: both sets of parameters are alive; every stream has one.
    check(unsafe { ffi::avcodec_parameters_copy(stream.codecpar, parameters.as_ptr()) })?;
    // SAFETY: as above. Tags of other containers would be refused.
    unsafe { (*stream.codecpar).codec_tag = 0 };
    stream.time_base = time_base.into();
    usize::try_from(stream.index).map_err(|_| ffmpeg::Error::Bug)
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

/// Entries of a stream that stay true for the output.
const STREAM_METADATA: &[&[u8]] = &[
    b"language",
    b"title",
    b"handler_name",
    b"creation_time",
    b"comment",
    b"filename",
    b"mimetype",
];

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
    copy_entries(from, to, |key| STREAM_METADATA.iter().any(|it| it.eq_ignore_ascii_case(key)));
}

/// Copies chapters, moved by `-origin` and stretched; those that end before 0 are left out.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn copy_chapters(input: &Input, output: &mut Output, origin: Seconds, stretch: Seconds) {
    let tick = Ratio::new(1, 1_000);
    for (number, chapter) in input.chapters().enumerate() {
        // SAFETY: the chapter belongs to the open context, which is borrowed.
        let from = unsafe { &*chapter.as_ptr() };
        let base = time_base(from.time_base.into());
        let place = |time: i64| ticks((base * i128::from(time) - origin) * stretch, tick).max(0);
        let (start, end) = (place(from.start), place(from.end));
        let id = i64::try_from(number).unwrap_or(i64::MAX);
        if end <= start {
            continue;
        }
        let base = ffmpeg::Rational::new(1, 1_000);
        let Ok(mut added) = output.add_chapter(id, base, start, end, "") else { return };
        // SAFETY: the chapter belongs to the output's context, which is borrowed.
        let to = unsafe { &mut (*added.as_mut_ptr()).metadata };
        // SAFETY: the dictionary is the chapter's own; null is allowed.
        unsafe { ffi::av_dict_free(to) };
        copy_entries(from.metadata, to, |_| true);
    }
}
