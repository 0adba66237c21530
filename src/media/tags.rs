//! What a clip says of its recording: creation time, maker, model, software.

use std::ffi::CStr;
use std::ptr;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::Input;

use super::raw;

/// Tags at the most.
const MOST_TAGS: usize = 64;

/// Bytes of a value at the most; more of it is cut off.
const LONGEST_VALUE_BYTES: usize = 512;

/// Tags that describe the container and not the recording.
const OF_THE_CONTAINER: &[&str] =
    &["major_brand", "minor_version", "compatible_brands", "duration", "vendor_id"];

/// Tags of the whole clip, and those of its video that it does not have, by FFmpeg's names.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn tags(input: &Input, video: usize) -> Vec<(String, String)> {
    // SAFETY: the context is alive; null is a dictionary without entries.
    let whole = unsafe { (*input.as_ptr()).metadata };
    let mut found = Vec::new();
    read(whole, &mut found);
    if let Some(stream) = input.stream(video) {
        // SAFETY: the stream belongs to the context, which is borrowed.
        read(unsafe { (*stream.as_ptr()).metadata }, &mut found);
    }
    found
}

/// Tags of one stream.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn of_stream(input: &Input, index: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Some(stream) = input.stream(index) {
        // SAFETY: the stream belongs to the context, which is borrowed.
        read(unsafe { (*stream.as_ptr()).metadata }, &mut found);
    }
    found
}

#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn read(from: *const ffi::AVDictionary, found: &mut Vec<(String, String)>) {
    let mut entry: *mut ffi::AVDictionaryEntry = ptr::null_mut();
    while found.len() < MOST_TAGS {
        // SAFETY: `from` is null or a dictionary that does not change meanwhile; `entry` is of it, or null.
        entry = unsafe { ffi::av_dict_get(from, c"".as_ptr(), entry, ffi::AV_DICT_IGNORE_SUFFIX) };
        // SAFETY: null or an entry that lives as long as the dictionary.
        let Some(pair) = (unsafe { entry.as_ref() }) else { return };
        let (name, value) = (raw::text(pair.key), bounded(pair.value));
        let is_known = found.iter().any(|it| it.0.eq_ignore_ascii_case(&name));
        let is_of_container = OF_THE_CONTAINER.iter().any(|it| it.eq_ignore_ascii_case(&name));
        if !is_known && !is_of_container && !value.trim().is_empty() {
            found.push((name, value));
        }
    }
}

/// The beginning of a C string of a dictionary.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn bounded(value: *const std::ffi::c_char) -> String {
    if value.is_null() {
        return String::new();
    }
    // SAFETY: values end with zero and live as long as the dictionary.
    let bytes = unsafe { CStr::from_ptr(value) }.to_bytes();
    String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_VALUE_BYTES)]).into_owned()
}
