//! Tensors out of the zip archives that `torch.save` writes since PyTorch 1.6.
//!
//! `NAME/data.pkl` describes the tensors, `NAME/data/KEY` holds their elements, stored without compression, and
//! `NAME/byteorder` says how. Strides are honoured. Nothing larger than the file itself is ever allocated for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Cursor, Read};

use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive};

use crate::models::pickle::{self, Element, Id, Node, PICKLE_LIMIT_BYTES, Pickle, StridedView};

/// First bytes of a zip archive.
pub const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// One tensor, its elements in row-major order, little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTensor {
    /// F32 (also for what was F64), F16, BF16, or the type of counters.
    pub dtype: Dtype,
    /// Sizes.
    pub shape: Vec<usize>,
    /// Elements.
    pub bytes: Vec<u8>,
}

/// The tensors of a state dict by name.
///
/// # Errors
/// What was found and what was expected.
pub fn read(bytes: &[u8]) -> Result<BTreeMap<String, RawTensor>, String> {
    let mut archive = Archive::open(bytes)?;
    let order = archive.member("byteorder", 16)?;
    if order.as_deref().is_some_and(|order| order.trim_ascii() != b"little") {
        return Err("was saved on a big-endian machine; save it on a little-endian one".to_owned());
    }
    let pickle = archive.member("data.pkl", PICKLE_LIMIT_BYTES)?;
    let pickle = pickle::read(&pickle.ok_or("holds no data.pkl")?)?;
    let mut tensors = BTreeMap::new();
    // Elements are not shared in a state dict but for tied weights, so their number is bounded by the file's.
    let mut elements_left = bytes.len();
    for (name, id) in state_dict(&pickle)? {
        let Some(Node::Tensor(view)) = pickle.nodes.get(id) else { continue };
        let count = check_view(name, view)?;
        elements_left = elements_left
            .checked_sub(count)
            .ok_or_else(|| format!("tensor `{name}` goes beyond what the file can hold"))?;
        let tensor = gather(view, archive.storage(name, view)?);
        if tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(format!("tensor `{name}` is there twice"));
        }
    }
    Ok(tensors)
}

/// The dict that holds tensors: the root, or the only dict in it that does.
fn state_dict(pickle: &Pickle) -> Result<Vec<(&str, Id)>, String> {
    let holds_tensors = |entries: &[(&str, Id)]| {
        entries.iter().any(|(_, id)| matches!(pickle.nodes.get(*id), Some(Node::Tensor(_))))
    };
    let root = pickle.entries(pickle.root).ok_or("holds no state dict but another value")?;
    if holds_tensors(&root) {
        return Ok(root);
    }
    // Each dict once, however often the root refers to it.
    let mut seen = BTreeSet::new();
    let mut inner: Vec<_> = root
        .iter()
        .filter(|(_, id)| seen.insert(*id))
        .filter_map(|(name, id)| Some((*name, pickle.entries(*id)?)))
        .filter(|(_, entries)| holds_tensors(entries))
        .collect();
    match (inner.pop(), inner.len()) {
        (Some((_, entries)), 0) => Ok(entries),
        (None, _) => Err("holds no tensors".to_owned()),
        (Some((last, _)), _) => {
            let names: Vec<_> = inner.iter().map(|(name, _)| *name).chain([last]).collect();
            Err(format!(
                "holds several state dicts ({}), expected one; save the right one alone",
                names.join(", ")
            ))
        }
    }
}

/// The number of elements of a view that lies within its storage and repeats none of it.
fn check_view(name: &str, view: &StridedView) -> Result<usize, String> {
    let outside = || {
        format!(
            "tensor `{name}` of shape {:?} does not fit its storage of {} elements",
            view.shape, view.count
        )
    };
    let product = |count: usize, size: &usize| count.checked_mul(*size);
    let count = view.shape.iter().try_fold(1, product).ok_or_else(outside)?;
    if count == 0 {
        return Err(format!("tensor `{name}` is empty"));
    }
    let mut last = view.offset;
    for (size, stride) in view.shape.iter().zip(&view.strides) {
        let reach = (size - 1).checked_mul(*stride).ok_or_else(outside)?;
        last = last.checked_add(reach).ok_or_else(outside)?;
    }
    if last >= view.count || count > view.count { Err(outside()) } else { Ok(count) }
}

/// The elements of a checked view, row by row.
fn gather(view: &StridedView, storage: &[u8]) -> RawTensor {
    let size = view.element.size_bytes();
    let count: usize = view.shape.iter().product();
    let dtype = match view.element {
        Element::F16 => Dtype::F16,
        Element::Bf16 => Dtype::BF16,
        Element::F32 | Element::F64 => Dtype::F32,
        Element::Other(1) => Dtype::U8,
        Element::Other(2) => Dtype::I16,
        Element::Other(4) => Dtype::I32,
        Element::Other(_) => Dtype::I64,
    };
    let mut bytes = Vec::with_capacity(count * dtype.bitsize() / 8);
    let mut index = vec![0; view.shape.len()];
    for _ in 0..count {
        let steps = index.iter().zip(&view.strides).map(|(i, stride)| i * stride);
        let start = (view.offset + steps.sum::<usize>()) * size;
        let element = &storage[start..start + size];
        match <[u8; 8]>::try_from(element) {
            Ok(wide) if view.element == Element::F64 => {
                bytes.extend((f64::from_le_bytes(wide) as f32).to_le_bytes());
            }
            _ => bytes.extend_from_slice(element),
        }
        for (i, size) in index.iter_mut().zip(&view.shape).rev() {
            *i += 1;
            if *i < *size {
                break;
            }
            *i = 0;
        }
    }
    RawTensor { dtype, shape: view.shape.clone(), bytes }
}

/// An archive with one folder, and the storages read from it.
struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
    storages: HashMap<String, Vec<u8>>,
    /// Bytes that storages may still hold: entries that overlap in the file run out of it.
    bytes_left: usize,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|error| format!("is a damaged zip archive ({error})"))?;
        let names = zip.file_names().filter_map(Result::ok);
        let mut folders: Vec<String> =
            names.filter_map(|name| Some(name.strip_suffix("data.pkl")?.to_owned())).collect();
        match (folders.pop(), folders.is_empty()) {
            (Some(folder), true) => {
                Ok(Self { zip, folder, storages: HashMap::new(), bytes_left: bytes.len() })
            }
            _ => Err("is a zip archive but none of torch.save (it holds no data.pkl)".to_owned()),
        }
    }

    /// The content of a member, if it is there.
    fn member(&mut self, name: &str, limit_bytes: usize) -> Result<Option<Vec<u8>>, String> {
        let path = format!("{}{name}", self.folder);
        let Some(index) = self.zip.index_for_name(&path) else { return Ok(None) };
        let damaged = |error: &dyn std::fmt::Display| format!("its member {path}: {error}");
        let member = self.zip.by_index_raw(index).map_err(|error| damaged(&error))?;
        if member.compression() != CompressionMethod::Stored || member.encrypted() {
            return Err(damaged(&"is compressed or encrypted, which torch.save does not do"));
        }
        if member.size() > limit_bytes as u64 {
            return Err(damaged(&format!(
                "holds {} bytes, more than {limit_bytes}",
                member.size()
            )));
        }
        drop(member);
        let member = self.zip.by_index(index).map_err(|error| damaged(&error))?;
        let mut content = Vec::new();
        // Reading to the end checks the member's CRC.
        let mut limited = member.take(limit_bytes as u64 + 1);
        limited.read_to_end(&mut content).map_err(|error| damaged(&error))?;
        Ok(Some(content))
    }

    /// The elements behind a view.
    fn storage(&mut self, name: &str, view: &StridedView) -> Result<&[u8], String> {
        if !self.storages.contains_key(&view.key) {
            let content = self.member(&format!("data/{}", view.key), self.bytes_left)?;
            let content = content.ok_or_else(|| {
                format!("tensor `{name}` lies in data/{}, which is missing", view.key)
            })?;
            self.bytes_left = self.bytes_left.saturating_sub(content.len());
            self.storages.insert(view.key.clone(), content);
        }
        let storage = &self.storages[&view.key];
        let expected = view.count.checked_mul(view.element.size_bytes());
        if expected == Some(storage.len()) {
            return Ok(storage);
        }
        Err(format!(
            "tensor `{name}` lies in data/{} of {} bytes, expected {} elements of {} bytes",
            view.key,
            storage.len(),
            view.count,
            view.element.size_bytes()
        ))
    }
}
