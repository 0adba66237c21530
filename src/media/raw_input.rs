//! Opens an input by the bytes of its path: one file, whatever it says.

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::Input;

use super::original;
use super::raw::{check, text};

/// Protocols an input may use: it is one file, and names no other.
const PROTOCOLS: &CStr = c"file";

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

/// The bytes of a file, which are closed by whoever asked for them.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn open_bytes(url: &CStr) -> Result<*mut ffi::AVIOContext, ffmpeg::Error> {
    let mut io: *mut ffi::AVIOContext = ptr::null_mut();
    // SAFETY: `io` is null and receives the byte stream; `url` is a C string.
    check(unsafe { ffi::avio_open(&raw mut io, url.as_ptr(), ffi::AVIO_FLAG_READ) })?;
    original::leave_no_trace(url);
    Ok(io)
}

/// The demuxer that the content (never the name) of the file asks for.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn sniff(url: &CStr) -> Result<Demuxer, ffmpeg::Error> {
    let mut io = open_bytes(url)?;
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

/// Opens `url` with `demuxer`, without looking at stream content yet. Nothing but this one file is opened, whatever it
/// names: only the `file` protocol and the demuxers of `allowed` (FFmpeg's names, comma-separated) may be used, MOV's
/// references to other files are off, and whatever a demuxer still asks for is refused by [`open_nothing`]. More than
/// `max_streams` streams are not allocated for. A reading error comes before what a demuxer makes of it.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn open_input(
    url: &CStr,
    demuxer: Demuxer,
    allowed: &CStr,
    max_streams: i32,
) -> Result<Input, ffmpeg::Error> {
    // FFmpeg would close a byte stream of its own on failure, and nobody would know what had happened to it.
    let mut io = open_bytes(url)?;
    // SAFETY: takes nothing; null is checked.
    let mut context = unsafe { ffi::avformat_alloc_context() };
    // SAFETY: null, or a context of our own that nobody else knows yet.
    let Some(raw) = (unsafe { context.as_mut() }) else {
        // SAFETY: opened above, closed once.
        unsafe { ffi::avio_closep(&raw mut io) };
        return Err(ffmpeg::Error::Other { errno: ffmpeg::error::ENOMEM });
    };
    raw.pb = io;
    raw.io_open = Some(open_nothing);
    raw.max_streams = max_streams;
    let mut options: *mut ffi::AVDictionary = ptr::null_mut();
    for (key, value) in [
        (c"protocol_whitelist", PROTOCOLS),
        (c"format_whitelist", allowed),
        (c"enable_drefs", c"0"),
        (c"use_absolute_path", c"0"),
    ] {
        // SAFETY: a null dictionary is created on the first entry; key and value are C strings that are copied. A copy
        // that cannot be made leaves the entry out, which `open_nothing` makes good.
        unsafe { ffi::av_dict_set(&raw mut options, key.as_ptr(), value.as_ptr(), 0) };
    }
    // SAFETY: the context is ours; FFmpeg frees it on failure.
    let opened = unsafe {
        ffi::avformat_open_input(&raw mut context, url.as_ptr(), demuxer.0, &raw mut options)
    };
    // SAFETY: the dictionary is ours; null is allowed.
    unsafe { ffi::av_dict_free(&raw mut options) };
    if let Err(error) = check(opened) {
        // SAFETY: the byte stream is ours, and is alive: FFmpeg frees the context alone.
        let code = unsafe { (*io).error };
        // SAFETY: as above; it is closed once.
        unsafe { ffi::avio_closep(&raw mut io) };
        return Err(reading_error(code).unwrap_or(error));
    }
    // SAFETY: the context is open. From here on its byte stream is closed with it.
    unsafe { (*context).flags &= !ffi::AVFMT_FLAG_CUSTOM_IO };
    // SAFETY: the open context is handed over to its owner.
    let input = unsafe { Input::wrap(context) };
    latched_error(&input).map_or(Ok(input), Err)
}

/// What FFmpeg calls where a demuxer wants a file opened: the clip is open already, and nothing else may be.
extern "C" fn open_nothing(
    _context: *mut ffi::AVFormatContext,
    _opened: *mut *mut ffi::AVIOContext,
    _url: *const c_char,
    _flags: c_int,
    _options: *mut *mut ffi::AVDictionary,
) -> c_int {
    -ffmpeg::error::EACCES
}

/// Reads as much as FFmpeg needs to know the streams. A picture above `max_pixels` is not allocated for. A reading error comes
/// first here, too.
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
    latched_error(input).map_or(check(found).map(|_| ()), Err)
}

/// The reading error that FFmpeg keeps in the byte stream, which some demuxers take for the end of the file.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn latched_error(input: &Input) -> Option<ffmpeg::Error> {
    // SAFETY: the context is open; `pb` is null or its byte stream.
    let code = unsafe {
        let pb = (*input.as_ptr()).pb;
        if pb.is_null() { 0 } else { (*pb).error }
    };
    reading_error(code)
}

/// What a byte stream's code of an error says; its end is none.
fn reading_error(code: c_int) -> Option<ffmpeg::Error> {
    let error = (code < 0).then(|| ffmpeg::Error::from(code));
    error.filter(|it| *it != ffmpeg::Error::Eof)
}
