//! Draws the seeds of the fuzz targets: small, and each of another kind.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::process::Command;

use safetensors::Dtype;
use slomod::daemon::journal::{Again, Count, FILE_NAME, Journal, NewJob, Original, Planned};
use slomod::daemon::snapshot::Snapshot;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::common::layouts::{ALL, Layout, serialize_as};

/// Layouts of networks: the smallest of each kind of chain, end and head.
const NETWORKS: [(&str, Layout); 4] =
    [("4.0", ALL[0]), ("4.6", ALL[3]), ("4.14.lite", ALL[8]), ("4.26", ALL[12])];

/// Writes the seeds of `target` into `folder`, in place of those that are there.
pub fn write(target: &str, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("seed-") {
            fs::remove_file(path).unwrap();
        }
    }
    let put = |name: &str, content: &[u8]| {
        fs::write(folder.join(format!("seed-{name}")), content).unwrap();
    };
    match target {
        "config" => configs(&put),
        "weights" => weights(&put),
        "import" => checkpoints(&put),
        "journal" => journals(&put),
        "clip" => clips(&put),
        other => panic!("there is no target {other}"),
    }
}

type Put<'a> = dyn Fn(&str, &[u8]) + 'a;

fn configs(put: &Put<'_>) {
    put("shipped", include_bytes!("../../config/slomod.toml"));
    put("least", b"[[watch]]\npath = \"/in\"\noutput = \"/out\"\n");
    let smooth = "[daemon]\nreserve = 0\nsettle = \"1m 30s\"\nextensions = []\nmodel = \"/m\"\ndevice = \"cuda:1\"\n\
                  [[watch]]\npath = \"/a\"\noutput = \"/o\"\nmode = \"smooth\"\nfps = 59.94\ncodec = \"ffv1\"\n\
                  [[watch]]\npath = \"/b/\"\noutput = \"/o\"\nspeed = \"1/3\"\nfps = \"60000/1001\"\nscale = 0.5\n\
                  recursive = true\non_success = \"move\"\noriginals = \"/k\"\ncodec = \"av1\"\npreset = 8\ncrf = 30\n";
    put("most", smooth.as_bytes());
    put("wrong", b"[[watch]]\npath = \"in\"\noutput = '''/\xce\xbb'''\nfactor = 17\n");
}

/// Weights of a layout in bf16, narrow: the files are only some kilobytes large.
fn narrow(layout: Layout) -> Vec<u8> {
    let layout =
        Layout { widths: if layout.widths.len() == 4 { &[2; 4] } else { &[2; 5] }, ..layout };
    let half = |value: f32| half::bf16::from_f32(value).to_le_bytes().to_vec();
    serialize_as(&layout.tensors(1), layout.metadata(), Dtype::BF16, half)
}

fn weights(put: &Put<'_>) {
    for (name, layout) in NETWORKS {
        put(name, &narrow(layout));
    }
    let whole = narrow(ALL[3]);
    put("cut", &whole[..whole.len() / 2]);
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

/// A state dict whose tensors all lie in storage `0`, which holds 256 bytes.
fn pickle(tensors: &[(&str, &str, &[u8], &[u8])]) -> Vec<u8> {
    let mut out = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let numbers = |out: &mut Vec<u8>, values: &[u8]| {
        out.push(b'(');
        values.iter().for_each(|value| out.extend([b'K', *value]));
        out.push(b't');
    };
    for (name, storage, shape, strides) in tensors {
        text(&mut out, name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{storage}\n").bytes());
        text(&mut out, "0");
        text(&mut out, "cpu");
        let width = if *storage == "HalfStorage" { 2_u8 } else { 4 };
        out.extend([b'M', (256 / u16::from(width)) as u8, 0, b't', b'Q', b'K', 0]);
        numbers(&mut out, shape);
        numbers(&mut out, strides);
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    out
}

fn checkpoints(put: &Put<'_>) {
    let one = ("block0.conv0.0.0.bias", "FloatStorage", &[4_u8][..], &[1_u8][..]);
    let two =
        ("module.block0.conv0.0.0.weight", "HalfStorage", &[2, 3, 3, 3][..], &[27, 9, 3, 1][..]);
    let other = ("teacher.x", "LongStorage", &[1][..], &[1][..]);
    put("pickle-one", &pickle(&[one]));
    put("pickle-two", &pickle(&[one, two, other]));
    let mut memo = b"\x80\x02}q\x00(".to_vec();
    text(&mut memo, "model");
    memo.extend(b"q\x01}q\x02K\x01K\x02\x86sh\x00u.");
    put("pickle-memo", &memo);
    put("archive-4.6", &archive(ALL[3]));
    put("safetensors", &[b"{", &narrow(ALL[3])[..200]].concat());
}

/// A checkpoint as `torch.save` writes it, every tensor with a storage of its own.
fn archive(layout: Layout) -> Vec<u8> {
    let layout =
        Layout { widths: if layout.widths.len() == 4 { &[2; 4] } else { &[2; 5] }, ..layout };
    let tensors = layout.tensors(1);
    let mut names: Vec<_> = tensors.keys().collect();
    names.sort();
    let mut dict = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let number = |out: &mut Vec<u8>, value: usize| {
        out.push(b'J');
        out.extend((value as i32).to_le_bytes());
    };
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (key, name) in names.into_iter().enumerate() {
        let (shape, values) = &tensors[name];
        text(&mut dict, name);
        dict.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut dict, "storage");
        dict.extend(b"ctorch\nBFloat16Storage\n");
        text(&mut dict, &key.to_string());
        text(&mut dict, "cpu");
        number(&mut dict, values.len());
        dict.extend(b"tQ");
        number(&mut dict, 0);
        for strides in [false, true] {
            dict.push(b'(');
            for axis in 0..shape.len() {
                let stride = shape[axis + 1..].iter().product();
                number(&mut dict, if strides { stride } else { shape[axis] });
            }
            dict.push(b't');
        }
        dict.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        let bytes: Vec<u8> =
            values.iter().flat_map(|it| half::bf16::from_f32(*it).to_le_bytes()).collect();
        zip.start_file(format!("n/data/{key}"), options).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    dict.extend(b"u.");
    for (name, content) in [("n/data.pkl", &dict[..]), ("n/byteorder", b"little")] {
        zip.start_file(name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Length of the database, the database, the log: what `targets::journal` takes apart.
fn packed(folder: &Path) -> Vec<u8> {
    let database = fs::read(folder.join(FILE_NAME)).unwrap();
    let log = fs::read(folder.join(format!("{FILE_NAME}-wal"))).unwrap_or_default();
    [&(database.len() as u32).to_le_bytes()[..], &database, &log].concat()
}

/// A state folder whose journal has pages of that size: small ones make small seeds.
fn state(page_bytes: u32) -> (tempfile::TempDir, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let raw = rusqlite::Connection::open(folder.path().join(FILE_NAME)).unwrap();
    raw.execute_batch(&format!("PRAGMA page_size = {page_bytes}; VACUUM")).unwrap();
    drop(raw);
    let journal = Journal::open(folder.path()).unwrap();
    (folder, journal)
}

/// Jobs in every state that a daemon that died can leave.
fn fill(journal: &mut Journal) {
    for (number, name) in ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"].into_iter().enumerate() {
        let new = NewJob {
            watch: "/in",
            relative: Path::new(name),
            snapshot: Snapshot { size_bytes: 9, mtime_ns: 5, ctime_ns: 5, inode: number as u64 },
            sha256: "abc",
            settings: "{}",
            settings_sha256: "s",
            list_sha256: "",
        };
        journal.submit(&new, number as i64).unwrap();
    }
    let temporary = Path::new("/nonexistent/out/.a.1.1.slomod-tmp.mp4");
    let planned = Planned {
        temporary: temporary.to_owned(),
        output: "/nonexistent/out/a.mp4".into(),
        report_path: "/nonexistent/out/a.mp4.json".into(),
        report: "{}".into(),
    };
    for step in 0..4 {
        let claim = journal.claim("me", &["/in"], 9, 60_000).unwrap().unwrap();
        journal.writing(&claim, temporary).unwrap();
        match step {
            0 => {
                journal.publishing(&claim, &planned).unwrap();
                journal.done(&claim, Original::Pending, 10).unwrap();
            }
            1 => journal.publishing(&claim, &planned).unwrap(),
            2 => {
                let again =
                    Again { count: Count::Delay, next_try_ms: 20, code: "io", message: "later" };
                journal.again(&claim, &again).unwrap();
            }
            _ => {}
        }
    }
}

fn journals(put: &Put<'_>) {
    let (folder, mut journal) = state(512);
    put("new-in-log", &packed(folder.path()));
    fill(&mut journal);
    put("jobs-in-log", &packed(folder.path()));
    drop(journal);
    let whole = packed(folder.path());
    put("jobs", &whole);
    put("cut", &whole[..whole.len() * 2 / 3]);
    put("zeros", &[&4096_u32.to_le_bytes()[..], &[0; 4096]].concat());
    let raw = rusqlite::Connection::open(folder.path().join(FILE_NAME)).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    put("newer", &packed(folder.path()));
    put("nothing", &[0; 4]);
    let foreign = tempfile::tempdir().unwrap();
    let raw = rusqlite::Connection::open(foreign.path().join(FILE_NAME)).unwrap();
    raw.execute_batch(
        "PRAGMA page_size = 512; VACUUM; CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x')",
    )
    .unwrap();
    drop(raw);
    put("foreign", &packed(foreign.path()));
    let empty = tempfile::tempdir().unwrap();
    let raw = rusqlite::Connection::open(empty.path().join(FILE_NAME)).unwrap();
    raw.execute_batch("PRAGMA page_size = 512; VACUUM").unwrap();
    drop(raw);
    put("no-tables", &packed(empty.path()));
}

/// Clips of every container that is taken, and what comes instead of clips.
fn clips(put: &Put<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let sound = "-f lavfi -i sine=f=500:r=8000:d=0.4";
    let video = "-f lavfi -i testsrc2=s=32x32:r=10:d=0.5";
    for (name, args) in [
        ("h264.mp4", format!("{video} {sound} -c:v libx264 -c:a aac -b:a 16k")),
        ("fragmented.mp4", format!("{video} -c:v libx264 -movflags frag_keyframe+empty_moov")),
        ("mjpeg.mov", format!("{video} {sound} -c:v mjpeg -q:v 20 -c:a pcm_s16le")),
        ("ffv1.mkv", format!("{video} -c:v ffv1")),
        ("vp8.webm", format!("{video} {sound} -c:v libvpx -b:v 50k -c:a libopus -b:a 8k -ar 8000")),
        ("mpeg4.avi", format!("{video} {sound} -c:v mpeg4 -q:v 20 -c:a pcm_u8")),
        ("h264.ts", format!("{video} -c:v libx264 -f mpegts")),
        ("mpeg2.mpg", format!("{video} -r 25 -c:v mpeg2video -q:v 20")),
        ("flv1.flv", format!("{video} -c:v flv1 -q:v 20")),
        ("wmv2.wmv", format!("{video} -c:v wmv2 -q:v 20 -f asf")),
        ("theora.ogv", format!("{video} -c:v libtheora -q:v 1 -f ogg")),
        ("raw.y4m", "-f lavfi -i testsrc2=s=16x16:r=10:d=0.2 -f yuv4mpegpipe".to_owned()),
        ("h264.h264", format!("{video} -c:v libx264 -f h264")),
        ("variable.mp4", format!("{video} -c:v mpeg4 -q:v 20 -bsf:v setts=ts='TS+N*N*700'")),
        ("sound.m4a", format!("{sound} -c:a aac -b:a 16k")),
        ("still.jpg", "-f lavfi -i testsrc2=s=16x16 -frames:v 1 -q:v 20 -f mjpeg".to_owned()),
    ] {
        let path = folder.path().join(name);
        let done = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-nostdin", "-bitexact"])
            .args(args.split_whitespace())
            .arg("-bitexact")
            .arg(&path)
            .output()
            .unwrap();
        assert!(done.status.success(), "{args}: {}", String::from_utf8_lossy(&done.stderr));
        put(name, &fs::read(path).unwrap());
    }
    put("playlist.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n/etc/hostname\n");
    put("concat.mp4", b"ffconcat version 1.0\nfile '/etc/hostname'\n");
    put("text.mp4", b"a letter\n");
}
