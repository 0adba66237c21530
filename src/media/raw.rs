//! Safe wrappers for what ffmpeg-next lacks: facts of a container and its streams, tags, side data, decoders.

use std::ffi::{CStr, c_char};
use std::io;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::Input;
use num_rational::Ratio;

use super::alpha::{self, AlphaPlace};
use super::clip::Hdr;
use crate::frame::Seconds;

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

pub(super) fn check(code: i32) -> Result<i32, ffmpeg::Error> {
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

/// Color tags in FFmpeg's own values.
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

/// Which field of an interlaced picture is shown first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldOrder {
    /// Lines 0, 2, 4, ….
    TopFirst,
    /// Lines 1, 3, 5, ….
    BottomFirst,
}

fn field_order(order: ffi::AVFieldOrder) -> Option<FieldOrder> {
    use ffi::AVFieldOrder as O;
    match order {
        O::AV_FIELD_TT | O::AV_FIELD_BT => Some(FieldOrder::TopFirst),
        O::AV_FIELD_BB | O::AV_FIELD_TB => Some(FieldOrder::BottomFirst),
        O::AV_FIELD_UNKNOWN | O::AV_FIELD_PROGRESSIVE => None,
    }
}

/// What a stream says of itself.
pub(super) struct StreamFacts {
    pub(super) index: usize,
    pub(super) kind: ffmpeg::media::Type,
    pub(super) codec_id: ffi::AVCodecID,
    pub(super) codec: String,
    /// The container's four letters for the codec; `None` where it has none, or others.
    pub(super) tag: Option<String>,
    /// Whether the demuxer uses it up by itself, as the track that chapters are in.
    pub(super) used_up: bool,
    /// Seconds a tick.
    pub(super) time_base: Seconds,
    /// Of the first frame shown.
    pub(super) start: Option<Seconds>,
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
    /// Order of the fields, where the container says that pictures are interlaced.
    pub(super) field_order: Option<FieldOrder>,
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
        tag: tag_text(parameters.codec_tag),
        used_up: raw.discard == ffi::AVDiscard::AVDISCARD_ALL,
        time_base: tick,
        start: (raw.start_time != ffi::AV_NOPTS_VALUE).then(|| tick * i128::from(raw.start_time)),
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
        field_order: field_order(parameters.field_order),
        sample_rate: parameters.sample_rate,
    })
}

fn tag_text(tag: u32) -> Option<String> {
    let bytes = tag.to_le_bytes();
    let readable = bytes.iter().all(|it| it.is_ascii_graphic() || *it == b' ');
    readable.then(|| bytes.iter().map(|it| char::from(*it)).collect())
}

/// All entries of the container's index so far.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn index_entries(input: &Input, index: usize) -> u64 {
    let Some(stream) = input.stream(index) else { return 0 };
    // SAFETY: the stream belongs to the open context, which is borrowed; nothing is changed.
    let count = unsafe { ffi::avformat_index_get_entries_count(stream.as_ptr()) };
    u64::try_from(count).unwrap_or(0)
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

/// Where a sample lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    pub(super) at: u64,
    /// Bytes.
    pub(super) size: u32,
}

impl Extent {
    pub(super) fn end(self) -> u64 {
        self.at.saturating_add(u64::from(self.size))
    }
}

/// The samples of the stream that the container's index knows.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn index_extents(input: &mut Input, index: usize) -> Vec<Extent> {
    let Some(mut stream) = input.stream_mut(index) else { return Vec::new() };
    // SAFETY: the stream belongs to the open context, which is borrowed.
    let raw = unsafe { stream.as_mut_ptr() };
    // SAFETY: as above.
    let count = unsafe { ffi::avformat_index_get_entries_count(raw) };
    let extent = |entry| {
        // SAFETY: the entry is within the index; null is checked.
        let entry = unsafe { ffi::avformat_index_get_entry(raw, entry).as_ref() }?;
        Some(Extent { at: u64::try_from(entry.pos).ok()?, size: entry.size().unsigned_abs() })
    };
    (0..count).filter_map(extent).collect()
}

/// Bytes that the container keeps of that kind for a stream.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn stream_data(
    input: &Input,
    index: usize,
    kind: ffi::AVPacketSideDataType,
) -> Option<Vec<u8>> {
    let stream = input.stream(index)?;
    let mut size = 0;
    // SAFETY: the stream belongs to the open context, which is borrowed.
    let data = unsafe { ffi::av_stream_get_side_data(stream.as_ptr(), kind, &raw mut size) };
    if data.is_null() {
        return None;
    }
    // SAFETY: the side data has that many bytes and lives as long as the stream.
    Some(unsafe { std::slice::from_raw_parts(data, size) }.to_vec())
}

/// HDR10's metadata that the container keeps for a stream.
pub(super) fn stream_hdr(input: &Input, index: usize) -> Hdr {
    use ffi::AVPacketSideDataType as T;
    Hdr {
        mastering_display: stream_data(input, index, T::AV_PKT_DATA_MASTERING_DISPLAY_METADATA),
        content_light: stream_data(input, index, T::AV_PKT_DATA_CONTENT_LIGHT_LEVEL),
    }
}

/// HDR10's metadata that the codec keeps in a frame.
pub(super) fn frame_hdr(frame: &ffmpeg::frame::Video) -> Hdr {
    use ffmpeg::frame::side_data::Type as T;
    let bytes = |kind| frame.side_data(kind).map(|it| it.data().to_vec());
    Hdr {
        mastering_display: bytes(T::MasteringDisplayMetadata),
        content_light: bytes(T::ContentLightLevel),
    }
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
    /// Where transparency is found, if it has any.
    pub(super) alpha: Option<AlphaPlace>,
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
        alpha: alpha::place(descriptor),
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

/// Version of FFmpeg, as its makers or packagers name it.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn library_version() -> String {
    // SAFETY: takes nothing and returns a static string.
    text(unsafe { ffi::av_version_info() })
}

/// FFmpeg's name of a codec.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn codec_name(id: ffi::AVCodecID) -> String {
    // SAFETY: takes any value and returns a static string.
    let name = text(unsafe { ffi::avcodec_get_name(id) });
    if name == "none" || name.is_empty() { "unknown".to_owned() } else { name }
}

/// FFmpeg's names of color tags: matrix, primaries, transfer, range; `unknown` where untagged.
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

/// What a frame carries beside its samples that no encoder here takes over.
pub(super) fn frame_data(frame: &ffmpeg::frame::Video) -> impl Iterator<Item = &'static str> {
    use ffmpeg::frame::side_data::Type as T;
    const KINDS: [(T, &str); 4] = [
        (T::S12M_TIMECODE, "time codes"),
        (T::A53CC, "closed captions"),
        (T::DYNAMIC_HDR_PLUS, "HDR10+ metadata"),
        (T::DOVI_METADATA, "Dolby Vision metadata"),
    ];
    KINDS.into_iter().filter(|(kind, _)| frame.side_data(*kind).is_some()).map(|it| it.1)
}

/// A decoder of a stream with so many threads; of pictures of no more than `max_pixels`, where that is not 0.
pub(super) fn open_decoder(
    input: &Input,
    index: usize,
    threads: i32,
    max_pixels: u64,
) -> Result<ffmpeg::decoder::Opened, ffmpeg::Error> {
    let stream = input.stream(index).ok_or(ffmpeg::Error::StreamNotFound)?;
    let mut context = ffmpeg::codec::Context::from_parameters(stream.parameters())?;
    prepare_decoder(&mut context, stream.time_base(), threads, max_pixels);
    let codec = ffmpeg::decoder::find(context.id()).ok_or(ffmpeg::Error::DecoderNotFound)?;
    context.decoder().open_as(codec)
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

/// Keeps the demuxer from reading a stream.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn discard_stream(input: &mut Input, index: usize) {
    if let Some(mut stream) = input.stream_mut(index) {
        // SAFETY: the stream belongs to the open context, which is borrowed.
        unsafe { (*stream.as_mut_ptr()).discard = ffi::AVDiscard::AVDISCARD_ALL };
    }
}

/// FFmpeg's flags of a packet, also those that ffmpeg-next does not name.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn packet_flags(packet: &ffmpeg::Packet) -> i32 {
    // SAFETY: the packet is alive while it is borrowed.
    unsafe { (*ffmpeg::packet::Ref::as_ptr(packet)).flags }
}

/// Sets FFmpeg's flags of a packet.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn set_packet_flags(packet: &mut ffmpeg::Packet, flags: i32) {
    // SAFETY: the packet is alive and borrowed by nobody else.
    unsafe { (*ffmpeg::packet::Mut::as_mut_ptr(packet)).flags = flags };
}

/// The headers that a codec keeps outside its packets.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn extradata(parameters: &ffmpeg::codec::Parameters) -> Vec<u8> {
    // SAFETY: the parameters are alive while they are borrowed.
    let raw = unsafe { &*parameters.as_ptr() };
    match usize::try_from(raw.extradata_size) {
        Ok(size) if size > 0 && !raw.extradata.is_null() => {
            // SAFETY: FFmpeg allocated that many bytes, which live as long as the parameters.
            unsafe { std::slice::from_raw_parts(raw.extradata, size) }.to_vec()
        }
        _ => Vec::new(),
    }
}
