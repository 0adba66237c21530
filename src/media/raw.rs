//! Safe wrappers for what ffmpeg-next lacks: opening by bytes of a path, facts of a stream, tags, side data.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::{Input, Output};
use num_rational::Ratio;

use crate::frame::Seconds;

/// Protocols an input may use: it is one file, and names no other.
const PROTOCOLS: &CStr = c"file";

/// The operating system's error inside FFmpeg's, if it is one.
pub(super) fn system_error(error: ffmpeg::Error) -> Option<io::Error> {
    match error {
        ffmpeg::Error::Other { errno } => Some(io::Error::from_raw_os_error(errno)),
        _ => None,
    }
}

/// The operating system's error, or one that carries FFmpeg's text.
pub(super) fn io_error(error: ffmpeg::Error) -> io::Error {
    system_error(error).unwrap_or_else(|| match error {
        ffmpeg::Error::InvalidData => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        _ => io::Error::other(error.to_string()),
    })
}

fn check(code: i32) -> Result<i32, ffmpeg::Error> {
    if code < 0 { Err(ffmpeg::Error::from(code)) } else { Ok(code) }
}

/// `time_base` as seconds a tick; an invalid one counts as microseconds.
pub(super) fn time_base(value: ffmpeg::Rational) -> Seconds {
    positive(value).unwrap_or_else(|| Ratio::new(1, 1_000_000))
}

/// The rational, if it is above zero.
pub(super) fn positive(value: ffmpeg::Rational) -> Option<Ratio<i128>> {
    let (n, d) = (value.numerator(), value.denominator());
    (n > 0 && d > 0).then(|| Ratio::new(i128::from(n), i128::from(d)))
}

/// The number of ticks of `tick` seconds nearest to `time`, saturating.
pub(super) fn ticks(time: Seconds, tick: Seconds) -> i64 {
    let count = (time / tick).round().to_integer();
    i64::try_from(count).unwrap_or(if count < 0 { i64::MIN + 1 } else { i64::MAX })
}

/// `file:` and the bytes of the path, so that no name is taken for a protocol, an option or a pattern.
pub(super) fn file_url(path: &Path) -> io::Result<CString> {
    let mut url = b"file:".to_vec();
    url.extend_from_slice(path.as_os_str().as_bytes());
    CString::new(url).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// A demuxer as recognised from content.
#[derive(Clone, Copy)]
pub(super) struct Demuxer(*const ffi::AVInputFormat);

impl Demuxer {
    /// FFmpeg's names of it, comma-separated.
    #[expect(unsafe_code, reason = "FFmpeg's C interface")]
    pub(super) fn name(self) -> String {
        // SAFETY: made by `sniff` only, from a registered demuxer, which lives for ever.
        let name = unsafe { (*self.0).name };
        text(name)
    }
}

/// The demuxer that the content (never the name) of the file asks for.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn sniff(url: &CStr) -> Result<Demuxer, ffmpeg::Error> {
    let mut io: *mut ffi::AVIOContext = ptr::null_mut();
    // SAFETY: `io` is null and receives the context; `url` is a C string.
    check(unsafe { ffi::avio_open(&raw mut io, url.as_ptr(), ffi::AVIO_FLAG_READ) })?;
    let mut format = ptr::null();
    // SAFETY: `io` is open; a null name and log context are allowed.
    let found = unsafe {
        ffi::av_probe_input_buffer2(io, &raw mut format, ptr::null(), ptr::null_mut(), 0, 0)
    };
    // SAFETY: opened above, closed once.
    unsafe { ffi::avio_closep(&raw mut io) };
    check(found)?;
    if format.is_null() { Err(ffmpeg::Error::InvalidData) } else { Ok(Demuxer(format)) }
}

/// Opens `url` with `demuxer`, without looking at stream content yet. Only the `file` protocol is allowed.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn open_input(url: &CStr, demuxer: Demuxer) -> Result<Input, ffmpeg::Error> {
    let mut options: *mut ffi::AVDictionary = ptr::null_mut();
    let key = c"protocol_whitelist";
    // SAFETY: a null dictionary is created on the first entry; key and value are C strings that are copied.
    check(unsafe { ffi::av_dict_set(&raw mut options, key.as_ptr(), PROTOCOLS.as_ptr(), 0) })?;
    let mut context = ptr::null_mut();
    // SAFETY: `context` is null, so FFmpeg allocates it and frees it on failure.
    let opened = unsafe {
        ffi::avformat_open_input(&raw mut context, url.as_ptr(), demuxer.0, &raw mut options)
    };
    // SAFETY: the dictionary is ours; null is allowed.
    unsafe { ffi::av_dict_free(&raw mut options) };
    check(opened)?;
    // SAFETY: the open context is handed over to its owner.
    Ok(unsafe { Input::wrap(context) })
}

/// Reads as much as FFmpeg needs to know the streams. A picture above `max_pixels` is not allocated for.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn find_streams(input: &mut Input, max_pixels: u64) -> Result<(), ffmpeg::Error> {
    let limit = CString::new(max_pixels.to_string()).map_err(|_| ffmpeg::Error::Bug)?;
    let mut options: Vec<*mut ffi::AVDictionary> = vec![ptr::null_mut(); input.streams().count()];
    for entry in &mut options {
        // SAFETY: as in `open_input`.
        unsafe { ffi::av_dict_set(entry, c"max_pixels".as_ptr(), limit.as_ptr(), 0) };
    }
    // SAFETY: the context is open; one dictionary for each of its streams, as FFmpeg asks.
    let found = unsafe { ffi::avformat_find_stream_info(input.as_mut_ptr(), options.as_mut_ptr()) };
    for entry in &mut options {
        // SAFETY: each dictionary is ours.
        unsafe { ffi::av_dict_free(entry) };
    }
    check(found).map(|_| ())
}

/// The reading error that FFmpeg keeps in the byte stream, which some demuxers take for the end of the file.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn latched_error(input: &Input) -> Option<ffmpeg::Error> {
    // SAFETY: the context is open; `pb` is null or its byte stream.
    let code = unsafe {
        let pb = (*input.as_ptr()).pb;
        if pb.is_null() { 0 } else { (*pb).error }
    };
    match ffmpeg::Error::from(code) {
        _ if code >= 0 => None,
        ffmpeg::Error::Eof => None,
        error => Some(error),
    }
}

/// What the container says of itself.
pub(super) struct ContainerFacts {
    /// In seconds, if the header says so (and it is no guess from size or timestamps).
    pub(super) duration: Option<Seconds>,
    /// In seconds, as written or as FFmpeg guesses.
    pub(super) duration_guess: Option<Seconds>,
    /// Earliest time.
    pub(super) start: Option<Seconds>,
}

/// What the container says of itself.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn container_facts(input: &Input) -> ContainerFacts {
    // SAFETY: the context is open and outlives the borrow.
    let context = unsafe { &*input.as_ptr() };
    let seconds = |value: i64| Ratio::new(i128::from(value), 1_000_000);
    let known = |value: i64| (value != ffi::AV_NOPTS_VALUE).then(|| seconds(value));
    let duration_guess = known(context.duration).filter(|it| *it > Ratio::from_integer(0));
    let by_header = context.duration_estimation_method
        == ffi::AVDurationEstimationMethod::AVFMT_DURATION_FROM_STREAM;
    ContainerFacts {
        duration: duration_guess.filter(|_| by_header),
        duration_guess,
        start: known(context.start_time),
    }
}

/// Colour tags in FFmpeg's own values.
#[derive(Clone, Copy)]
pub(super) struct Tags {
    pub(super) matrix: ffi::AVColorSpace,
    pub(super) primaries: ffi::AVColorPrimaries,
    pub(super) transfer: ffi::AVColorTransferCharacteristic,
    pub(super) range: ffi::AVColorRange,
    pub(super) chroma_location: ffi::AVChromaLocation,
}

impl Tags {
    /// Untagged.
    pub(super) const UNKNOWN: Self = Self {
        matrix: ffi::AVColorSpace::AVCOL_SPC_UNSPECIFIED,
        primaries: ffi::AVColorPrimaries::AVCOL_PRI_UNSPECIFIED,
        transfer: ffi::AVColorTransferCharacteristic::AVCOL_TRC_UNSPECIFIED,
        range: ffi::AVColorRange::AVCOL_RANGE_UNSPECIFIED,
        chroma_location: ffi::AVChromaLocation::AVCHROMA_LOC_UNSPECIFIED,
    };
}

/// What a stream says of itself.
pub(super) struct StreamFacts {
    pub(super) index: usize,
    pub(super) kind: ffmpeg::media::Type,
    pub(super) codec_id: ffi::AVCodecID,
    pub(super) codec: String,
    /// Seconds a tick.
    pub(super) time_base: Seconds,
    pub(super) duration: Option<Seconds>,
    /// Frames by the header.
    pub(super) frames: Option<u64>,
    pub(super) average_rate: ffmpeg::Rational,
    pub(super) base_rate: ffmpeg::Rational,
    pub(super) disposition: i32,
    pub(super) width: i32,
    pub(super) height: i32,
    pub(super) pixel: Option<ffi::AVPixelFormat>,
    pub(super) sample_aspect_ratio: ffmpeg::Rational,
    pub(super) tags: Tags,
    pub(super) interlaced: bool,
    pub(super) sample_rate: i32,
}

/// What the stream says of itself; `None` if there is no such stream.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn stream_facts(input: &Input, index: usize) -> Option<StreamFacts> {
    let stream = input.stream(index)?;
    // SAFETY: the stream belongs to the open context, which is borrowed.
    let raw = unsafe { &*stream.as_ptr() };
    // SAFETY: every stream has parameters for as long as it lives.
    let parameters = unsafe { &*raw.codecpar };
    let tick = time_base(raw.time_base.into());
    let container_ratio = ffmpeg::Rational::from(raw.sample_aspect_ratio);
    let codec_ratio = ffmpeg::Rational::from(parameters.sample_aspect_ratio);
    Some(StreamFacts {
        index,
        kind: ffmpeg::media::Type::from(parameters.codec_type),
        codec_id: parameters.codec_id,
        codec: codec_name(parameters.codec_id),
        time_base: tick,
        duration: (raw.duration > 0).then(|| tick * i128::from(raw.duration)),
        frames: u64::try_from(raw.nb_frames).ok().filter(|it| *it > 0),
        average_rate: raw.avg_frame_rate.into(),
        base_rate: raw.r_frame_rate.into(),
        disposition: raw.disposition,
        width: parameters.width,
        height: parameters.height,
        pixel: pixel_format(parameters.format),
        sample_aspect_ratio: if positive(container_ratio).is_some() {
            container_ratio
        } else {
            codec_ratio
        },
        tags: Tags {
            matrix: parameters.color_space,
            primaries: parameters.color_primaries,
            transfer: parameters.color_trc,
            range: parameters.color_range,
            chroma_location: parameters.chroma_location,
        },
        interlaced: !matches!(
            parameters.field_order,
            ffi::AVFieldOrder::AV_FIELD_UNKNOWN | ffi::AVFieldOrder::AV_FIELD_PROGRESSIVE
        ),
        sample_rate: parameters.sample_rate,
    })
}

/// Entries of the container's index that will be shown; `None` where it has none.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn indexed_frames(input: &mut Input, index: usize) -> Option<u64> {
    let mut stream = input.stream_mut(index)?;
    // SAFETY: the stream belongs to the open context, which is borrowed.
    let raw = unsafe { stream.as_mut_ptr() };
    // SAFETY: as above.
    let count = unsafe { ffi::avformat_index_get_entries_count(raw) };
    let shown = (0..count).filter(|entry| {
        // SAFETY: the entry is within the index; null is checked.
        let entry = unsafe { ffi::avformat_index_get_entry(raw, *entry).as_ref() };
        entry.is_some_and(|it| it.flags() & ffi::AVINDEX_DISCARD_FRAME == 0)
    });
    u64::try_from(shown.count()).ok().filter(|it| *it > 0)
}

/// The 3x3 display matrix of the stream, if it has one.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn display_matrix(input: &Input, index: usize) -> Option<[i32; 9]> {
    let stream = input.stream(index)?;
    let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX;
    let mut size = 0;
    // SAFETY: the stream belongs to the open context, which is borrowed.
    let data = unsafe { ffi::av_stream_get_side_data(stream.as_ptr(), kind, &raw mut size) };
    if data.is_null() || size < size_of::<[i32; 9]>() {
        return None;
    }
    // SAFETY: the side data holds nine integers at the least; alignment is not assumed.
    Some(unsafe { data.cast::<[i32; 9]>().read_unaligned() })
}

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

/// Clockwise degrees, 0..360, that the matrix turns the stored picture for display.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn rotation_degrees(matrix: &[i32; 9]) -> i32 {
    // SAFETY: nine integers, as FFmpeg asks.
    let counter_clockwise = unsafe { ffi::av_display_rotation_get(matrix.as_ptr()) };
    if counter_clockwise.is_nan() {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "within -180..=180 by its contract")]
    let degrees = -counter_clockwise.round() as i32;
    degrees.rem_euclid(360)
}

/// The pixel format of that number, if there is one.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn pixel_format(value: i32) -> Option<ffi::AVPixelFormat> {
    let known = value >= 0 && value < ffi::AVPixelFormat::AV_PIX_FMT_NB as i32;
    // SAFETY: every number from 0 to below NB names a variant of FFmpeg's enum.
    known.then(|| unsafe { std::mem::transmute::<i32, ffi::AVPixelFormat>(value) })
}

/// What is to know of a pixel format.
pub(super) struct PixelFacts {
    pub(super) name: String,
    pub(super) components: u8,
    pub(super) chroma_shift: (u8, u8),
    pub(super) flags: i32,
    pub(super) depth: i32,
}

/// What is to know of a pixel format.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn pixel_facts(format: ffi::AVPixelFormat) -> Option<PixelFacts> {
    // SAFETY: the descriptor is null or lives for ever.
    let descriptor = unsafe { ffi::av_pix_fmt_desc_get(format).as_ref() }?;
    let components = usize::from(descriptor.nb_components);
    Some(PixelFacts {
        name: text(descriptor.name),
        components: descriptor.nb_components,
        chroma_shift: (descriptor.log2_chroma_w, descriptor.log2_chroma_h),
        flags: i32::try_from(descriptor.flags).unwrap_or(i32::MAX),
        depth: descriptor.comp.iter().take(components).map(|it| it.depth).max().unwrap_or(0),
    })
}

/// Text of a C string that FFmpeg owns; empty for null.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: callers pass strings that FFmpeg keeps alive and ends with zero.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// FFmpeg's name of a codec.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn codec_name(id: ffi::AVCodecID) -> String {
    // SAFETY: takes any value and returns a static string.
    let name = text(unsafe { ffi::avcodec_get_name(id) });
    if name == "none" || name.is_empty() { "unknown".to_owned() } else { name }
}

/// FFmpeg's names of colour tags: matrix, primaries, transfer, range; `unknown` where untagged.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn tag_names(tags: &Tags) -> [String; 4] {
    // SAFETY: each takes any value of its enum and returns null or a static string.
    let names = unsafe {
        [
            ffi::av_color_space_name(tags.matrix),
            ffi::av_color_primaries_name(tags.primaries),
            ffi::av_color_transfer_name(tags.transfer),
            ffi::av_color_range_name(tags.range),
        ]
    };
    names.map(|name| {
        let name = text(name);
        if name.is_empty() { "unknown".to_owned() } else { name }
    })
}

/// The pixel format of a decoded frame.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn frame_format(frame: &ffmpeg::frame::Video) -> Option<ffi::AVPixelFormat> {
    // SAFETY: the frame is alive while it is borrowed.
    pixel_format(unsafe { (*frame.as_ptr()).format })
}

/// Sets what a decoder must know before it is opened.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn prepare_decoder(
    context: &mut ffmpeg::codec::Context,
    time_base: ffmpeg::Rational,
    threads: i32,
    max_pixels: u64,
) {
    // SAFETY: the context is ours and not open yet.
    let raw = unsafe { &mut *context.as_mut_ptr() };
    raw.pkt_timebase = time_base.into();
    raw.thread_count = threads;
    raw.thread_type = ffi::FF_THREAD_FRAME | ffi::FF_THREAD_SLICE;
    if max_pixels > 0 {
        raw.max_pixels = i64::try_from(max_pixels).unwrap_or(i64::MAX);
    }
}

/// Sets what ffmpeg-next cannot on a video encoder that is not open yet.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn prepare_encoder(
    context: &mut ffmpeg::codec::Context,
    tags: &Tags,
    global_header: bool,
) {
    // SAFETY: the context is ours and not open yet.
    let raw = unsafe { &mut *context.as_mut_ptr() };
    raw.colorspace = tags.matrix;
    raw.color_primaries = tags.primaries;
    raw.color_trc = tags.transfer;
    raw.color_range = tags.range;
    raw.chroma_sample_location = tags.chroma_location;
    raw.thread_count = 0;
    if global_header {
        raw.flags |= ffi::AV_CODEC_FLAG_GLOBAL_HEADER.cast_signed();
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

/// Keeps the demuxer from reading a stream.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn discard_stream(input: &mut Input, index: usize) {
    if let Some(mut stream) = input.stream_mut(index) {
        // SAFETY: the stream belongs to the open context, which is borrowed.
        unsafe { (*stream.as_mut_ptr()).discard = ffi::AVDiscard::AVDISCARD_ALL };
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

/// What samples of sound are like.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AudioShape {
    /// Samples a second of each channel.
    pub(super) rate: i32,
    /// Sample format.
    pub(super) format: ffmpeg::format::Sample,
    /// FFmpeg's description of the channels, such as `stereo`.
    pub(super) layout: String,
    /// How many channels.
    pub(super) channels: usize,
}

/// A channel layout that is freed.
struct ChannelLayout(ffi::AVChannelLayout);

impl ChannelLayout {
    /// The layout of that description.
    #[expect(unsafe_code, reason = "FFmpeg's C interface")]
    fn parse(description: &str) -> Result<Self, ffmpeg::Error> {
        let description = CString::new(description).map_err(|_| ffmpeg::Error::Bug)?;
        // SAFETY: all-zero is the documented empty layout.
        let mut layout = Self(unsafe { std::mem::zeroed() });
        // SAFETY: the layout is ours; the description is a C string.
        check(unsafe {
            ffi::av_channel_layout_from_string(&raw mut layout.0, description.as_ptr())
        })?;
        Ok(layout)
    }

    /// A copy; an unordered one becomes the usual layout of as many channels.
    #[expect(unsafe_code, reason = "FFmpeg's C interface")]
    fn ordered(from: &ffi::AVChannelLayout) -> Result<Self, ffmpeg::Error> {
        // SAFETY: all-zero is the documented empty layout.
        let mut layout = Self(unsafe { std::mem::zeroed() });
        if from.order == ffi::AVChannelOrder::AV_CHANNEL_ORDER_UNSPEC {
            // SAFETY: the layout is ours and empty.
            unsafe { ffi::av_channel_layout_default(&raw mut layout.0, from.nb_channels) };
        } else {
            // SAFETY: both layouts are valid.
            check(unsafe { ffi::av_channel_layout_copy(&raw mut layout.0, from) })?;
        }
        Ok(layout)
    }

    #[expect(unsafe_code, reason = "FFmpeg's C interface")]
    fn describe(&self) -> String {
        let mut buffer = [0_u8; 256];
        // SAFETY: the buffer has that many bytes; FFmpeg ends the text with zero.
        let length = unsafe {
            ffi::av_channel_layout_describe(
                &raw const self.0,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        };
        let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
        if length < 0 { String::new() } else { text.to_string_lossy().into_owned() }
    }
}

impl Drop for ChannelLayout {
    #[expect(unsafe_code, reason = "FFmpeg's C interface")]
    fn drop(&mut self) {
        // SAFETY: the layout is ours.
        unsafe { ffi::av_channel_layout_uninit(&raw mut self.0) };
    }
}

fn shape(
    rate: i32,
    format: ffmpeg::format::Sample,
    layout: &ffi::AVChannelLayout,
) -> Option<AudioShape> {
    let layout = ChannelLayout::ordered(layout).ok()?;
    let channels = usize::try_from(layout.0.nb_channels).ok().filter(|it| *it > 0)?;
    let known = rate > 0 && format != ffmpeg::format::Sample::None;
    known.then(|| AudioShape { rate, format, layout: layout.describe(), channels })
}

/// What an open decoder will hand out, as far as it knows.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn decoder_shape(context: &ffmpeg::codec::Context) -> Option<AudioShape> {
    // SAFETY: the context is alive while it is borrowed.
    let raw = unsafe { &*context.as_ptr() };
    shape(raw.sample_rate, raw.sample_fmt.into(), &raw.ch_layout)
}

/// What a decoded frame holds. Unordered channels are given the usual order.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn frame_shape(frame: &mut ffmpeg::frame::Audio) -> Option<AudioShape> {
    let format = frame.format();
    // SAFETY: the frame is alive while it is borrowed, and not shared.
    let raw = unsafe { &mut *frame.as_mut_ptr() };
    let found = shape(raw.sample_rate, format, &raw.ch_layout)?;
    if raw.ch_layout.order == ffi::AVChannelOrder::AV_CHANNEL_ORDER_UNSPEC {
        let channels = raw.ch_layout.nb_channels;
        // SAFETY: the frame owns its layout, which has nothing to free when unordered.
        unsafe { ffi::av_channel_layout_default(&raw mut raw.ch_layout, channels) };
    }
    Some(found)
}

/// Sets what ffmpeg-next cannot on an audio encoder that is not open yet.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn prepare_audio_encoder(
    context: &mut ffmpeg::codec::Context,
    shape: &AudioShape,
    global_header: bool,
) -> Result<(), ffmpeg::Error> {
    let layout = ChannelLayout::parse(&shape.layout)?;
    // SAFETY: the context is ours and not open yet.
    let raw = unsafe { &mut *context.as_mut_ptr() };
    if global_header {
        raw.flags |= ffi::AV_CODEC_FLAG_GLOBAL_HEADER.cast_signed();
    }
    // SAFETY: both layouts are valid.
    check(unsafe { ffi::av_channel_layout_copy(&raw mut raw.ch_layout, &raw const layout.0) })?;
    Ok(())
}

/// A frame of silence.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn silence(
    shape: &AudioShape,
    samples: i64,
) -> Result<ffmpeg::frame::Audio, ffmpeg::Error> {
    let layout = ChannelLayout::parse(&shape.layout)?;
    let mut frame = ffmpeg::frame::Audio::empty();
    let format = ffi::AVSampleFormat::from(shape.format);
    // SAFETY: the frame is ours and not shared.
    let raw = unsafe { &mut *frame.as_mut_ptr() };
    raw.format = format as i32;
    raw.sample_rate = shape.rate;
    raw.nb_samples = i32::try_from(samples).map_err(|_| ffmpeg::Error::InvalidData)?;
    // SAFETY: both layouts are valid.
    check(unsafe { ffi::av_channel_layout_copy(&raw mut raw.ch_layout, &raw const layout.0) })?;
    // SAFETY: format, layout and length are set, as FFmpeg asks.
    check(unsafe { ffi::av_frame_get_buffer(raw, 0) })?;
    // SAFETY: the buffers were just allocated for that many samples and channels.
    check(unsafe {
        ffi::av_samples_set_silence(
            raw.extended_data,
            0,
            raw.nb_samples,
            raw.ch_layout.nb_channels,
            format,
        )
    })?;
    Ok(frame)
}

/// A new frame with `length` samples of `frame` from sample `start` on.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn audio_part(
    frame: &mut ffmpeg::frame::Audio,
    start: i64,
    length: i64,
) -> Result<ffmpeg::frame::Audio, ffmpeg::Error> {
    let shape = frame_shape(frame).ok_or(ffmpeg::Error::InvalidData)?;
    let whole = i64::try_from(frame.samples()).unwrap_or(0);
    assert!(start >= 0 && length >= 0 && start + length <= whole, "the part is within the frame");
    let mut part = silence(&shape, length)?;
    // SAFETY: the frame is alive while it is borrowed.
    let from = unsafe { &*frame.as_ptr() };
    // SAFETY: the new frame is ours.
    let to = unsafe { &mut *part.as_mut_ptr() };
    let narrow = |it: i64| i32::try_from(it).map_err(|_| ffmpeg::Error::InvalidData);
    let (start, length) = (narrow(start)?, narrow(length)?);
    // SAFETY: both frames have the same format and channels; the assert holds the part to the source's samples.
    check(unsafe {
        ffi::av_samples_copy(
            to.extended_data,
            from.extended_data,
            0,
            start,
            length,
            from.ch_layout.nb_channels,
            shape.format.into(),
        )
    })?;
    Ok(part)
}

fn is_float_plane(frame: &ffi::AVFrame, channel: usize) -> bool {
    frame.format == ffi::AVSampleFormat::AV_SAMPLE_FMT_FLTP as i32
        && i32::try_from(channel).is_ok_and(|it| it < frame.ch_layout.nb_channels)
}

/// Appends the samples of a channel of a planar float frame.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn append_floats(frame: &ffmpeg::frame::Audio, channel: usize, to: &mut Vec<f32>) {
    // SAFETY: the frame is alive while it is borrowed.
    let raw = unsafe { &*frame.as_ptr() };
    assert!(is_float_plane(raw, channel), "the graph ends in the encoder's format");
    // SAFETY: a planar float frame has `nb_samples` floats for each of its channels.
    to.extend_from_slice(unsafe {
        std::slice::from_raw_parts((*raw.extended_data.add(channel)).cast::<f32>(), frame.samples())
    });
}

/// Copies samples into a channel of a planar float frame of our own.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn put_floats(frame: &mut ffmpeg::frame::Audio, channel: usize, samples: &[f32]) {
    let count = frame.samples();
    // SAFETY: the frame is alive while it is borrowed.
    let raw = unsafe { &*frame.as_ptr() };
    assert!(is_float_plane(raw, channel) && samples.len() == count, "samples fit the frame");
    // SAFETY: as in `append_floats`; the frame is ours and not shared.
    let plane = unsafe {
        std::slice::from_raw_parts_mut((*raw.extended_data.add(channel)).cast::<f32>(), count)
    };
    plane.copy_from_slice(samples);
}
