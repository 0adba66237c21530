//! `import`: PyTorch checkpoints, well made, nested, strided, cut, corrupt and hostile.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod common;
#[path = "support/torch.rs"]
mod torch;

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use slomod::models::import::{import, import_as};
use slomod::models::rife_v4::Network;
use slomod::models::versions;
use slomod::models::weights::Weights;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use common::layouts::{ALL, Layout, Tensors, serialize};

const V4_0: Layout = ALL[0];
const V4_6: Layout = ALL[3];
const V4_26: Layout = ALL[12];

/// A tensor as a checkpoint holds it.
struct Stored {
    name: String,
    storage: &'static str,
    bytes: Vec<u8>,
    count: i32,
    offset: i32,
    shape: Vec<i32>,
    strides: Vec<i32>,
}

fn stored(name: &str, shape: &[usize], values: &[f32]) -> Stored {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis] as i32;
    }
    Stored {
        name: name.to_owned(),
        storage: "FloatStorage",
        bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        count: values.len() as i32,
        offset: 0,
        shape: shape.iter().map(|&size| size as i32).collect(),
        strides,
    }
}

fn all_stored(tensors: &Tensors, prefix: &str) -> Vec<Stored> {
    let mut names: Vec<_> = tensors.keys().collect();
    names.sort();
    let one = |name: &&String| {
        let (shape, values) = &tensors[*name];
        stored(&format!("{prefix}{name}"), shape, values)
    };
    names.iter().map(one).collect()
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

fn number(out: &mut Vec<u8>, number: i32) {
    out.push(b'J');
    out.extend(number.to_le_bytes());
}

fn numbers(out: &mut Vec<u8>, values: &[i32]) {
    out.push(b'(');
    values.iter().for_each(|&value| number(out, value));
    out.push(b't');
}

const ORDERED_DICT: &[u8] = b"ccollections\nOrderedDict\n)R";

/// The state dict as `torch.save` writes it, without the header and the end.
fn dict_pickle(tensors: &[Stored]) -> Vec<u8> {
    let mut out = ORDERED_DICT.to_vec();
    out.push(b'(');
    for (key, tensor) in tensors.iter().enumerate() {
        text(&mut out, &tensor.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{}\n", tensor.storage).bytes());
        text(&mut out, &key.to_string());
        text(&mut out, "cpu");
        number(&mut out, tensor.count);
        out.extend(b"tQ");
        number(&mut out, tensor.offset);
        numbers(&mut out, &tensor.shape);
        numbers(&mut out, &tensor.strides);
        out.push(0x89);
        out.extend(ORDERED_DICT);
        out.extend(b"tR");
    }
    out.push(b'u');
    // The attribute that every module's state dict carries.
    out.extend(b"}");
    text(&mut out, "_metadata");
    out.extend(ORDERED_DICT);
    out.extend(b"sb");
    out
}

fn whole(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

fn archive(pickle: &[u8], tensors: &[Stored], byte_order: &str) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(vec![]));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut add = |name: &str, content: &[u8]| {
        zip.start_file(format!("flownet/{name}"), options).unwrap();
        zip.write_all(content).unwrap();
    };
    add("data.pkl", pickle);
    add("byteorder", byte_order.as_bytes());
    for (key, tensor) in tensors.iter().enumerate() {
        add(&format!("data/{key}"), &tensor.bytes);
    }
    add("version", b"3\n");
    zip.finish().unwrap().into_inner()
}

fn checkpoint(tensors: &[Stored]) -> Vec<u8> {
    archive(&whole(&dict_pickle(tensors)), tensors, "little")
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn output(&self) -> PathBuf {
        self.0.path().join("out.safetensors")
    }

    /// Imports `content`; the network that comes out, or the message.
    fn import(&self, content: &[u8]) -> Result<Network, String> {
        let input = self.put("in.pkl", content);
        import(&input, &self.output()).map_err(|error| error.to_string())?;
        Ok(network(&self.output()))
    }
}

fn network(path: &Path) -> Network {
    Network::read(&Weights::open(path).unwrap()).unwrap()
}

fn expected(layout: &Layout, seed: u64) -> Network {
    let weights = Weights::from_bytes(Path::new("x"), layout.file(seed).into()).unwrap();
    Network::read(&weights).unwrap()
}

/// The message for a checkpoint; it must hold `word`.
fn assert_refused(content: &[u8], word: &str) {
    let message = Folder::new().import(content).unwrap_err();
    println!("{message}");
    assert!(message.contains(word) && message.contains("in.pkl"), "`{word}` not in: {message}");
}

#[test]
fn state_dicts_come_out_as_the_same_network() {
    for (layout, prefix) in [(V4_0, ""), (V4_6, "module."), (V4_26, "module.")] {
        let tensors = all_stored(&layout.tensors(5), prefix);
        let found = Folder::new().import(&checkpoint(&tensors)).unwrap();
        assert_eq!(found, expected(&layout, 5));
    }
}

#[test]
fn the_summary_says_what_was_read_and_left_out() {
    let folder = Folder::new();
    let mut tensors = all_stored(&V4_26.tensors(5), "module.");
    let count = tensors.len();
    tensors.push(stored("module.teacher.conv0.weight", &[2, 2], &[f32::NAN; 4]));
    tensors.push(stored("module.caltime.0.bias", &[1], &[0.0]));
    let input = folder.put("in.pkl", &checkpoint(&tensors));
    let summary = import(&input, &folder.output()).unwrap();
    assert_eq!(summary.model_name, "rife v4.25/v4.26");
    assert_eq!(summary.tensors, count);
    assert_eq!(summary.sha256, Weights::open(&folder.output()).unwrap().sha256());
    assert_eq!(summary.notes.len(), 2, "{:?}", summary.notes);
    assert!(summary.notes[1].contains("teacher"), "{:?}", summary.notes);
    assert!(network(&folder.output()).notes.is_empty());
}

#[test]
fn a_state_dict_within_a_training_checkpoint_is_found() {
    let tensors = all_stored(&V4_6.tensors(6), "");
    let mut body = b"}(".to_vec();
    text(&mut body, "epoch");
    number(&mut body, 300);
    text(&mut body, "state_dict");
    body.extend(dict_pickle(&tensors));
    text(&mut body, "options");
    body.extend(b"]Na");
    body.push(b'u');
    let found = Folder::new().import(&archive(&whole(&body), &tensors, "little")).unwrap();
    assert_eq!(found, expected(&V4_6, 6));
}

#[test]
fn strides_and_offsets_are_honored() {
    let mut tensors = all_stored(&V4_6.tensors(7), "");
    let conv = tensors.iter_mut().find(|it| it.name == "block0.conv0.1.0.weight").unwrap();
    let &[out, ins, ..] = &conv.shape[..] else { panic!("four dimensions") };
    let (_, values) = &V4_6.tensors(7)["block0.conv0.1.0.weight"];
    // Channels last, three elements into the storage.
    let mut last = vec![9.0_f32; 3];
    for o in 0..out {
        for tap in 0..9 {
            for i in 0..ins {
                last.push(values[((o * ins + i) * 9 + tap) as usize]);
            }
        }
    }
    conv.bytes = last.iter().flat_map(|value| value.to_le_bytes()).collect();
    (conv.count, conv.offset) = (last.len() as i32, 3);
    conv.strides = vec![9 * ins, 1, 3 * ins, ins];
    let found = Folder::new().import(&checkpoint(&tensors)).unwrap();
    assert_eq!(found, expected(&V4_6, 7));
}

#[test]
fn half_and_double_precision_are_read() {
    let tensors = V4_6.tensors(8);
    let mut halves = all_stored(&tensors, "");
    for tensor in &mut halves {
        let (_, values) = &tensors[&tensor.name];
        let wide = tensor.name.ends_with("bias");
        tensor.storage = if wide { "DoubleStorage" } else { "HalfStorage" };
        tensor.bytes = if wide {
            values.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect()
        } else {
            values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect()
        };
    }
    let found = Folder::new().import(&checkpoint(&halves)).unwrap();
    let exact = expected(&V4_6, 8);
    assert_eq!(found.blocks[0].conv0[0].bias, exact.blocks[0].conv0[0].bias);
    let rounded: Vec<f32> = exact.blocks[0].conv0[0]
        .weight
        .iter()
        .map(|&value| half::f16::from_f32(value).to_f32())
        .collect();
    assert_eq!(found.blocks[0].conv0[0].weight, rounded);
}

#[test]
fn safetensors_are_checked_and_stripped_too() {
    let folder = Folder::new();
    let mut tensors: Tensors =
        V4_6.tensors(9).into_iter().map(|(name, it)| (format!("module.{name}"), it)).collect();
    tensors.insert("output.flow0".into(), (vec![1], vec![0.0]));
    assert_eq!(folder.import(&serialize(&tensors, None)).unwrap(), expected(&V4_6, 9));
    assert_eq!(Weights::open(&folder.output()).unwrap().shape("output.flow0"), None);
}

#[test]
fn a_said_version_tells_the_lite_network_apart() {
    let folder = Folder::new();
    let input = folder.put("in.pkl", &checkpoint(&all_stored(&V4_26.tensors(1), "")));
    import_as(&input, &folder.output(), Some("4.25.lite")).unwrap();
    assert_eq!(network(&folder.output()).name, "rife v4.25.lite");
    import_as(&input, &folder.output(), Some("4.26")).unwrap();
    assert_eq!(network(&folder.output()).name, "rife v4.25/v4.26");
    // The said version survives another import.
    import_as(&input, &folder.output(), Some("4.25.lite")).unwrap();
    let again = folder.0.path().join("again.safetensors");
    import(&folder.output(), &again).unwrap();
    assert_eq!(network(&again).name, "rife v4.25.lite");
}

#[test]
fn only_published_versions_are_known_and_each_is_of_its_layout() {
    for version in ["4.0", "4.26", "v4.6", "4.25.lite", "4.22.lite", "4.26.heavy"] {
        assert!(versions::is_published(version), "{version}");
    }
    let others =
        ["", "4", "4.", "4.27", "4.06", "4.+6", "3.9", "nonsense", "4.24.lite", "4.6.", "4.6.x"];
    for version in others {
        assert!(!versions::is_published(version), "{version}");
    }
    let is_of = versions::is_of;
    let middle = "rife v4.14-v4.20/v4.24";
    assert!(["4.14", "4.17", "4.20", "4.24"].into_iter().all(|it| is_of(middle, it)));
    assert!(!["4.13", "4.21", "4.23", "4.15.lite"].into_iter().any(|it| is_of(middle, it)));
    assert!(is_of("rife v4.15.lite-v4.17.lite", "4.16.lite"));
    assert!(!is_of("rife v4.15.lite-v4.17.lite", "4.16"));
    assert!(is_of("rife v4.25/v4.26", "v4.26") && !is_of("rife v4.25/v4.26", "4.25.lite"));
    // Every published one is of a layout that is known.
    let plain = (0..=26).map(|minor| format!("4.{minor}"));
    let lite = [12, 13, 14, 15, 16, 17, 22, 25].map(|minor| format!("4.{minor}.lite"));
    let heavy = [25, 26].map(|minor| format!("4.{minor}.heavy"));
    for version in plain.chain(lite).chain(heavy) {
        assert!(ALL.iter().any(|layout| is_of(layout.name, &version)), "{version}");
    }
}

#[test]
fn a_version_of_another_layout_is_refused() {
    let folder = Folder::new();
    let input = folder.put("in.safetensors", &V4_6.file(3));
    let refused = import_as(&input, &folder.output(), Some("4.26")).unwrap_err().to_string();
    assert!(refused.contains("rife v4.6") && refused.contains("4.26"), "{refused}");
    assert!(!folder.output().exists());
    import_as(&input, &folder.output(), Some("4.6")).unwrap();
}

#[test]
fn files_of_another_kind_are_refused_with_what_to_do() {
    assert_refused(&whole(&dict_pickle(&[])), "before 1.6");
    assert_refused(b"", "neither");
    assert_refused(b"some text that is no checkpoint", "neither");
    let tensors = all_stored(&V4_6.tensors(1), "");
    let big = archive(&whole(&dict_pickle(&tensors)), &tensors, "big");
    assert_refused(&big, "big-endian");
    assert_refused(&archive(&whole(b"N"), &[], "little"), "no state dict");
    assert_refused(&archive(&whole(b"}"), &[], "little"), "no tensors");
    let mut other = ZipWriter::new(Cursor::new(vec![]));
    other.start_file("readme.txt", SimpleFileOptions::default()).unwrap();
    assert_refused(&other.finish().unwrap().into_inner(), "none of torch.save");
}

#[test]
fn hostile_pickles_are_refused() {
    let system = b"cposix\nsystem\n(X\x04\0\0\0trueltR";
    assert_refused(&archive(&whole(system), &[], "little"), "posix.system");
    let eval = b"cbuiltins\neval\n(X\x01\0\0\x001tR";
    assert_refused(&archive(&whole(eval), &[], "little"), "builtins.eval");
    // Protocol 4's way to name a function.
    assert_refused(&archive(&whole(b"\x8c\x05posix\x8c\x06system\x93)R"), &[], "little"), "opcode");
}

/// One tensor after a change, in a file that otherwise is a good one.
fn changed(change: fn(&mut Stored)) -> Vec<u8> {
    let mut tensors = all_stored(&V4_6.tensors(1), "");
    change(tensors.iter_mut().find(|it| it.name == "block0.conv0.0.0.weight").unwrap());
    checkpoint(&tensors)
}

#[test]
fn tensors_that_lie_about_their_size_are_refused_by_name() {
    type Change = fn(&mut Stored);
    let cases: [(Change, &str); 8] = [
        (|it| it.count = i32::MAX, "expected 2147483647 elements"),
        (|it| it.count -= 1, "does not fit"),
        (|it| it.offset = 1, "does not fit"),
        (|it| it.offset = -1, "size of -1"),
        (|it| it.shape = vec![i32::MAX; 4], "does not fit"),
        (|it| (it.shape, it.strides) = (vec![1 << 30, 1 << 30, 4, 1], vec![0; 4]), "does not fit"),
        (|it| it.strides = vec![i32::MAX; 4], "does not fit"),
        (|it| it.bytes.truncate(8), "of 8 bytes"),
    ];
    for (change, word) in cases {
        let content = changed(change);
        assert_refused(&content, word);
    }
    assert_refused(&changed(|it| it.storage = "QInt8Storage"), "QInt8Storage");
    assert_refused(&changed(|it| it.storage = "IntStorage"), "holds I32, expected F32");
    assert_refused(&changed(|it| it.shape = vec![0, 7, 3, 3]), "empty");
}

#[test]
fn many_views_of_one_storage_do_not_grow_beyond_the_file() {
    // A hundred names for one remembered tensor: each fits its storage, together they do not fit the file.
    let mut tensors = all_stored(&V4_6.tensors(1), "");
    tensors.push(stored("big", &[50_000], &vec![0.0; 50_000]));
    let mut pickle = dict_pickle(&tensors);
    let end = dict_pickle(&[]).len() - ORDERED_DICT.len() - 1;
    pickle.truncate(pickle.len() - end);
    pickle.extend(b"q\x01");
    for alias in 0..100 {
        text(&mut pickle, &format!("alias{alias}"));
        pickle.extend(b"h\x01");
    }
    pickle.push(b'u');
    assert_refused(&archive(&whole(&pickle), &tensors, "little"), "beyond what the file can hold");
}

#[test]
fn cut_and_flipped_files_give_errors_and_never_panic() {
    let tensors = all_stored(&V4_6.tensors(1), "");
    let content = checkpoint(&tensors);
    let folder = Folder::new();
    for cut in 1..40 {
        let end = content.len() * cut / 40;
        assert!(folder.import(&content[..end]).is_err(), "cut at {end}");
    }
    let mut random = common::Random::new(3);
    for _ in 0..300 {
        let mut flipped = content.clone();
        // The pickle is near the start, the directory at the end; weights between matter less.
        let range = if random.next() > 0.0 { 20_000 } else { flipped.len() };
        let at = ((random.next() + 1.0) / 2.0 * (range - 1) as f32) as usize;
        flipped[at] ^= 1 << ((random.next() + 1.0) * 3.9) as u32;
        let _ = folder.import(&flipped);
    }
}

#[test]
fn a_failed_import_leaves_what_was_there() {
    let folder = Folder::new();
    std::fs::write(folder.output(), "kept").unwrap();
    assert!(folder.import(&changed(|it| it.offset = 1)).is_err());
    assert_eq!(std::fs::read_to_string(folder.output()).unwrap(), "kept");
    let mut names: Vec<_> =
        std::fs::read_dir(folder.0.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["in.pkl", "out.safetensors"]);
    let input = folder.put("in.pkl", &checkpoint(&all_stored(&V4_6.tensors(1), "")));
    let error = import(&input, Path::new("/nonexistent/out.safetensors")).unwrap_err();
    assert!(error.to_string().contains("cannot be written"), "{error}");
}

/// The real thing, and by the program itself.
#[test]
fn what_pytorch_saves_is_read() {
    let Some(python) = torch::python() else { return };
    let folder = Folder::new();
    let plain = folder.put("plain.safetensors", &V4_26.file(11));
    let script = "
import struct, json, sys, torch
from collections import OrderedDict
raw = open(sys.argv[1], 'rb').read()
n = struct.unpack('<Q', raw[:8])[0]
head = json.loads(raw[8:8 + n]); head.pop('__metadata__', None)
state = OrderedDict()
for name, it in head.items():
    a, b = it['data_offsets']
    state['module.' + name] = torch.frombuffer(bytearray(raw[8 + n + a:8 + n + b]), dtype=torch.float32).reshape(it['shape'])
state['module.caltime.num'] = torch.tensor(3)
torch.save(state, sys.argv[2] + '/plain.pkl')
last = OrderedDict((k, torch.nn.Parameter(v.to(memory_format=torch.channels_last) if v.dim() == 4 else v, requires_grad=v.dim() > 0) if v.is_floating_point() else v) for k, v in state.items())
torch.save({'epoch': 7, 'model': last, 'lr': 1e-4}, sys.argv[2] + '/nested.pth')
torch.save(state, sys.argv[2] + '/legacy.pkl', _use_new_zipfile_serialization=False)
";
    let status = std::process::Command::new(python)
        .args(["-c", script])
        .arg(&plain)
        .arg(folder.0.path())
        .status()
        .unwrap();
    assert!(status.success());
    for name in ["plain.pkl", "nested.pth"] {
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_slomod"))
            .args(["import", "--overwrite"])
            .args([folder.0.path().join(name), folder.output()])
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        assert_eq!(network(&folder.output()), expected(&V4_26, 11), "{name}");
    }
    let error = import(&folder.0.path().join("legacy.pkl"), &folder.output()).unwrap_err();
    assert!(error.to_string().contains("before 1.6"), "{error}");
}
