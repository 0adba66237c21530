//! Content that nobody vouches for: what names other files opens none, and what asks for too much gets nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::Crc;
use flate2::write::ZlibEncoder;
use rustix::fs::inotify;
use slomod::config::file::Daemon;
use slomod::media::decode::Decoder;
use slomod::media::{self, MediaError};

use crate::boxes;
use crate::{ffmpeg, workshop};

/// More than any picture may have, and less than FFmpeg itself refuses.
const HUGE_PX: u32 = 16_000;

/// Files and a port that no clip may make slomod open.
struct Bait {
    secret: PathBuf,
    opened: OwnedFd,
    port: TcpListener,
}

impl Bait {
    /// `secret` exists.
    fn new(secret: &Path) -> Self {
        let opened = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        let what = inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS;
        inotify::add_watch(&opened, secret, what).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        port.set_nonblocking(true).unwrap();
        Self { secret: secret.to_owned(), opened, port }
    }

    fn address(&self) -> String {
        self.port.local_addr().unwrap().to_string()
    }

    fn is_touched(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.opened, &mut buffer);
        events.next().is_ok() || self.port.accept().is_ok()
    }

    /// Bait that does not notice a bite proves nothing.
    fn check(&self) {
        assert!(!self.is_touched());
        fs::File::open(&self.secret).unwrap().read_exact(&mut [0]).unwrap();
        assert!(self.is_touched());
        while self.is_touched() {}
        TcpStream::connect(self.port.local_addr().unwrap()).unwrap();
        assert!(self.is_touched());
    }
}

/// Opens the clip and decodes what there is; the code of a refusal.
fn refusal(path: &Path) -> Option<&'static str> {
    let decode = || -> Result<u64, MediaError> {
        media::probe(path)?;
        let mut decoder = Decoder::open(path)?;
        while decoder.next_frame()?.is_some() {}
        Ok(decoder.stats().decoded)
    };
    match decode() {
        Ok(0) => Some("no_frames"),
        Ok(_) => None,
        Err(error) => Some(error.code()),
    }
}

/// W38.
#[test]
fn lists_are_refused_whatever_they_are_called_and_nothing_they_name_is_opened() {
    let Some(dir) = workshop() else { return };
    let dir = dir.path();
    let secret = ffmpeg(dir, "-f lavfi -i testsrc2=s=64x64:r=25:d=0.2 -c:v libx264 secret.ts");
    let bait = Bait::new(&secret);
    bait.check();
    let address = bait.address();
    let file = secret.display();
    let lists = [
        ("hls", format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{file}\n#EXT-X-ENDLIST\n")),
        ("hls-relative", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nsecret.ts\n".to_owned()),
        (
            "hls-net",
            format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://{address}/a.ts\n"),
        ),
        (
            "hls-key",
            format!(
                "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"http://{address}/k\"\n#EXTINF:4,\n{file}\n"
            ),
        ),
        (
            "hls-late",
            format!("\u{feff}\n \n#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://{address}/m\n"),
        ),
        ("concat", format!("ffconcat version 1.0\nfile '{file}'\n")),
        ("concat-plain", format!("file '{file}'\nfile 'http://{address}/a.mp4'\n")),
        (
            "sdp",
            format!(
                "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video {} RTP/AVP 96\n",
                9
            ),
        ),
        (
            "dash",
            format!(
                "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" \
                 profiles=\"urn:mpeg:dash:profile:isoff-on-demand:2011\"><Period><AdaptationSet \
                 mimeType=\"video/mp4\"><Representation id=\"1\" bandwidth=\"1\"><BaseURL>http://{address}/a.mp4\
                 </BaseURL></Representation></AdaptationSet></Period></MPD>\n"
            ),
        ),
        (
            "imf",
            format!(
                "<?xml version=\"1.0\"?>\n<CompositionPlaylist xmlns=\"http://www.smpte-ra.org/schemas/2067-3/2016\">\
                 <Id>{file}</Id></CompositionPlaylist>\n"
            ),
        ),
        ("subfile", format!("subfile,,start,0,end,0,,:{file}")),
        ("protocol", format!("concat:{file}|{file}")),
        (
            "asx",
            format!(
                "<asx version=\"3.0\"><entry><ref href=\"http://{address}/a\"/></entry></asx>\n"
            ),
        ),
        ("reference", format!("[Reference]\nRef1=http://{address}/a?MSWMExt=.asf\n")),
        ("pls", format!("[playlist]\nFile1={file}\nNumberOfEntries=1\n")),
        ("smil", format!("<smil><body><video src=\"{file}\"/></body></smil>\n")),
        ("rtsp", format!("RTSPtext\nrtsp://{address}/a\n")),
        (
            "vapoursynth",
            format!("import vapoursynth\nclip = vapoursynth.core.ffms2.Source('{file}')\n"),
        ),
        ("avisynth", format!("DirectShowSource(\"{file}\")\n")),
        (
            "svg",
            format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\"><image href=\"file://{file}\"/></svg>\n"
            ),
        ),
        ("pattern", "secret%03d.png\n".to_owned()),
    ];
    for (name, content) in lists {
        for extension in ["mp4", "mkv", "mov", "ts"] {
            let path = dir.join(format!("{name}.{extension}"));
            fs::write(&path, &content).unwrap();
            let found = refusal(&path);
            assert!(
                matches!(found, Some("playlist_refused" | "not_video")),
                "{}: {found:?}",
                path.display()
            );
            assert!(!bait.is_touched(), "{} made it open something", path.display());
            fs::remove_file(path).unwrap();
        }
    }
}

/// W38.
#[test]
fn names_that_are_patterns_or_protocols_open_only_the_file_of_that_name() {
    let Some(dir) = workshop() else { return };
    let dir = dir.path();
    let still = ffmpeg(dir, "-f lavfi -i testsrc2=s=64x64:r=25 -frames:v 1 frame001.png");
    let bait = Bait::new(&still);
    for name in
        ["frame%03d.png", "frame*.png", "frame%03d.mp4", "concat:frame001.png", "pipe:0.mp4"]
    {
        let path = dir.join(name);
        fs::write(&path, "no picture at all\n").unwrap();
        assert_eq!(refusal(&path), Some("not_video"), "{name}");
        assert_eq!(refusal(&dir.join(format!("absent-{name}"))), Some("source_unreadable"));
    }
    assert!(!bait.is_touched());
}

/// The clip with the samples of its first track in `folder/name`, by a Macintosh alias.
fn elsewhere(file: &[u8], folder: &str, name: &str) -> Vec<u8> {
    let path = format!("disk:{}:{name}", folder.trim_start_matches('/').replace('/', ":"));
    let pascal = |text: &str, bytes: usize| {
        let mut field = vec![0; bytes];
        field[0] = u8::try_from(text.len()).unwrap();
        field[1..=text.len()].copy_from_slice(text.as_bytes());
        field
    };
    let mut alias = vec![0; 4];
    alias.extend([0; 10]);
    alias.extend(pascal("disk", 28));
    alias.extend([0; 12]);
    alias.extend(pascal(name, 64));
    alias.extend([0; 16]);
    alias.extend([0, 1, 0, 1]);
    alias.extend([0; 16]);
    alias.extend([0, 2]);
    alias.extend(u16::try_from(path.len()).unwrap().to_be_bytes());
    alias.extend(path.as_bytes());
    alias.extend(vec![0; path.len() % 2]);
    alias.extend([0xff, 0xff, 0, 0]);
    let path = [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"];
    boxes::edit(file, &path, &|_| {
        [&[0, 0, 0, 0, 0, 0, 0, 1][..], &boxes::boxed(b"alis", &alias)].concat()
    })
}

/// W38.
#[test]
fn samples_that_lie_in_another_file_are_not_fetched() {
    let Some(dir) = workshop() else { return };
    let dir = dir.path();
    let whole = ffmpeg(dir, "-f lavfi -i testsrc2=s=64x64:r=25:d=0.4 -c:v libx264 secret.mp4");
    let clip = fs::read(&whole).unwrap();
    let bait = Bait::new(&whole);
    let folder = dir.to_str().unwrap();
    let path = dir.join("in.mov");
    fs::write(&path, elsewhere(&clip, folder, "secret.mp4")).unwrap();
    // FFmpeg does follow it where it is told to, so the file is what it should be.
    let fetch = "-enable_drefs 1 -use_absolute_path 1 -i in.mov -f null -";
    let all = [&["-v", "error", "-nostdin"][..], &fetch.split(' ').collect::<Vec<_>>()].concat();
    let done = std::process::Command::new("ffmpeg").args(all).current_dir(dir).output().unwrap();
    assert!(done.status.success() && bait.is_touched());
    while bait.is_touched() {}
    assert!(refusal(&path).is_some(), "its frames are not in it");
    assert!(!bait.is_touched());
}

/// W38.
#[test]
fn linked_segments_and_attachments_of_matroska_stay_what_they_are() {
    let Some(dir) = workshop() else { return };
    let dir = dir.path();
    fs::write(dir.join("attached"), "text").unwrap();
    let attach =
        "-attach attached -metadata:s:t mimetype=text/plain -metadata:s:t filename=../out.txt";
    let path =
        ffmpeg(dir, &format!("-f lavfi -i testsrc2=s=64x64:r=25:d=0.2 -c:v ffv1 {attach} in.mkv"));
    // WritingApp, FFmpeg's version, becomes NextFilename, whose number takes a byte more.
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes.windows(2).position(|it| it == [0x57, 0x41]).unwrap();
    let len = usize::from(bytes[place + 2] & 0x7f) - 1;
    let name = format!("./{}.mkv", "s".repeat(len - 6));
    bytes[place..place + 4].copy_from_slice(&[0x3e, 0x83, 0xbb, 0x80 | len as u8]);
    bytes[place + 4..][..len].copy_from_slice(name.as_bytes());
    fs::write(&path, bytes).unwrap();
    let secret = format!("-f lavfi -i testsrc2=s=64x64:r=25:d=0.2 -c:v ffv1 {name}");
    let secret = ffmpeg(dir, &secret);
    let bait = Bait::new(&secret);
    assert_eq!(refusal(&path), None, "it is a clip all the same");
    assert!(!bait.is_touched());
    assert!(!dir.join("../out.txt").exists());
}

/// A still of `side` by `side` black pixels: some kilobytes that stand for hundreds of megabytes.
fn black_png(side: u32) -> Vec<u8> {
    let chunk = |name: &[u8; 4], content: &[u8]| {
        let mut crc = Crc::new();
        crc.update(name);
        crc.update(content);
        let length = u32::try_from(content.len()).unwrap();
        [&length.to_be_bytes()[..], name, content, &crc.sum().to_be_bytes()].concat()
    };
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    let row = vec![0; side as usize / 8 + 1];
    (0..side).for_each(|_| packed.write_all(&row).unwrap());
    let size = [side.to_be_bytes(), side.to_be_bytes()].concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &[&size[..], &[1, 0, 0, 0, 0]].concat()),
        chunk(b"IDAT", &packed.finish().unwrap()),
        chunk(b"IEND", b""),
    ]
    .concat()
}

/// W39.
#[test]
fn a_picture_that_is_larger_than_may_be_is_not_decoded_whatever_the_header_says() {
    let Some(dir) = workshop() else { return };
    let dir = dir.path();
    fs::write(dir.join("bomb.png"), black_png(HUGE_PX)).unwrap();
    let path = ffmpeg(dir, "-framerate 25 -i bomb.png -c copy told.mkv");
    assert_eq!(refusal(&path), Some("too_large"));
    // PixelWidth and PixelHeight, two bytes each, say 64.
    let mut bytes = fs::read(&path).unwrap();
    for id in [0xb0, 0xba] {
        let honest = [id, 0x82, 0x3e, 0x80];
        let place = bytes.windows(4).position(|it| it == honest).unwrap();
        bytes[place + 2..place + 4].copy_from_slice(&[0, 64]);
    }
    let path = dir.join("lie.mkv");
    fs::write(&path, bytes).unwrap();
    assert!(refusal(&path).is_some(), "nothing of it can be decoded");
}

/// W39.
#[test]
fn absurd_counts_in_headers_are_refused() {
    let Some(dir) = workshop() else { return };
    let dir = dir.path();
    let path = dir.join("tracks.mp4");
    fs::write(&path, boxes::tracks(4_000)).unwrap();
    assert_eq!(refusal(&path), Some("too_large"));
    let clip = ffmpeg(dir, "-f lavfi -i testsrc2=s=64x64:r=25:d=0.4 -c:v mpeg4 in.mp4");
    let path = dir.join("index.mp4");
    fs::write(&path, boxes::index_of(&fs::read(&clip).unwrap(), 1_000_000)).unwrap();
    assert_eq!(refusal(&path), Some("too_many_frames"));
    // More than FFmpeg allocates at once: it goes on without an index.
    fs::write(&path, boxes::index_of(&fs::read(&clip).unwrap(), 170_000_000)).unwrap();
    assert!(refusal(&path).is_some());
}

/// W39. Rates that no camera has are not believed, and what they would promise is not allocated.
#[test]
fn absurd_rates_and_durations_are_not_believed() {
    let Some(dir) = workshop() else { return };
    let dir = dir.path();
    let clip = ffmpeg(dir, "-f lavfi -i testsrc2=s=64x64:r=25:d=0.4 -c:v mpeg4 in.mp4");
    let bytes = fs::read(&clip).unwrap();
    let path = dir.join("odd.mp4");
    for delta in [0, 1, 0x7fff_ffff, 0xffff_ffff] {
        fs::write(&path, boxes::table(&bytes, b"stts", &[0, 1, 10, delta])).unwrap();
        let mut decoder = Decoder::open(&path).unwrap();
        let rate = decoder.info().video.rate;
        assert!(rate.is_none_or(|it| (1..=1000).contains(&it.to_integer())), "{delta}: {rate:?}");
        let mut times = Vec::new();
        while let Some(frame) = decoder.next_frame().unwrap() {
            times.push(frame.pts);
        }
        // An edit list leaves out what comes too late by these times.
        assert!((1..=10).contains(&times.len()), "{delta}");
        assert!(times.is_sorted_by(|a, b| a < b), "{delta}: {times:?}");
    }
}

/// What the configuration takes by its name can be opened by its content.
#[test]
fn every_extension_of_the_configuration_has_its_demuxer() {
    let Some(dir) = workshop() else { return };
    for extension in Daemon::default().extensions {
        let codec = match extension.as_str() {
            "webm" => "libvpx -deadline realtime",
            "wmv" => "wmv2",
            "flv" => "flv1",
            "ogv" => "libtheora",
            "mxf" | "mpg" | "mpeg" => "mpeg2video",
            _ => "mpeg4",
        };
        let args = format!("-f lavfi -i testsrc2=s=176x144:r=25:d=0.4 -c:v {codec} in.{extension}");
        assert_eq!(refusal(&ffmpeg(dir.path(), &args)), None, "{extension}");
    }
}
