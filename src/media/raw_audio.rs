//! Safe wrappers for what ffmpeg-next lacks on sound: channel layouts, and frames by their real layout.

use std::ffi::{CStr, CString};

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;

use super::raw::check;

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

    /// The positions of its channels as bits (`AV_CH_…`); none where they have no positions, or are in another order.
    #[expect(unsafe_code, reason = "FFmpeg's C interface")]
    fn positions(&self) -> Option<u64> {
        let native = self.0.order == ffi::AVChannelOrder::AV_CHANNEL_ORDER_NATIVE;
        // SAFETY: all members of the union are plain bits, and no layout is made without setting them.
        let mask = unsafe { self.0.u.mask };
        native.then_some(mask)
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

/// Whether `layout` has a place for each channel of `source`: its own, or behind for one at the side and for the one in the
/// middle behind.
pub(super) fn has_room(layout: &str, source: &str) -> bool {
    const BEHIND: u64 = ffi::AV_CH_BACK_LEFT | ffi::AV_CH_BACK_RIGHT;
    const BESIDE: u64 = ffi::AV_CH_SIDE_LEFT | ffi::AV_CH_SIDE_RIGHT;
    let positions = |it: &str| ChannelLayout::parse(it).ok().and_then(|it| it.positions());
    let (Some(has), Some(wanted)) = (positions(layout), positions(source)) else { return false };
    let (mut left, mut free) = (wanted & !has, has & !wanted);
    for moved in [BESIDE, ffi::AV_CH_BACK_CENTER] {
        if left & moved != 0 && free & BEHIND == BEHIND {
            left &= !moved;
            free &= !BEHIND;
        }
    }
    left == 0
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
