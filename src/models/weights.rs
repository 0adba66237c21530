//! A weights file in memory: safetensors in f32, f16 or bf16, checked, read as f32 by name and shape.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::models::ModelError;

/// Largest weights file read. The largest published RIFE is under 100 MB.
pub const FILE_LIMIT_BYTES: u64 = 1 << 30;

/// Prefix that PyTorch's `DataParallel` puts before every name; taken off.
pub const PARALLEL_PREFIX: &str = "module.";

/// A weights file.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    bytes: Cow<'static, [u8]>,
    tensors: BTreeMap<String, Entry>,
    metadata: HashMap<String, String>,
}

#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl Weights {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ModelError::Read`]; [`ModelError::Invalid`] where it is no safetensors file or beyond [`FILE_LIMIT_BYTES`].
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::from_bytes(path, Cow::Owned(read_limited(path)?))
    }

    /// Takes the content of a file; `path` is for messages.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] where it is no safetensors file.
    pub fn from_bytes(path: &Path, bytes: Cow<'static, [u8]>) -> Result<Self, ModelError> {
        let invalid = |reason| ModelError::Invalid { path: path.to_owned(), reason };
        // `deserialize` checks that every tensor lies within the file and is as long as its shape says.
        SafeTensors::deserialize(&bytes).map_err(|error| invalid(not_safetensors(&error)))?;
        let (header, parsed) =
            SafeTensors::read_metadata(&bytes).map_err(|error| invalid(not_safetensors(&error)))?;
        let start = size_of::<u64>() + header;
        let mut tensors = BTreeMap::new();
        for (name, info) in parsed.tensors() {
            let plain = name.strip_prefix(PARALLEL_PREFIX).unwrap_or(&name).to_owned();
            let range = start + info.data_offsets.0..start + info.data_offsets.1;
            let entry = Entry { dtype: info.dtype, shape: info.shape.clone(), range };
            if tensors.insert(plain, entry).is_some() {
                return Err(invalid(format!(
                    "tensor `{name}` is there with and without `module.`"
                )));
            }
        }
        let metadata = parsed.metadata().clone().unwrap_or_default();
        Ok(Self { path: path.to_owned(), bytes, tensors, metadata })
    }

    /// SHA-256 of the file, in hex.
    #[must_use]
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }

    /// Names of all tensors, sorted, without [`PARALLEL_PREFIX`].
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape of a tensor, if it is there.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// A value of the file's metadata.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// An error about this file.
    #[must_use]
    pub fn invalid(&self, reason: String) -> ModelError {
        ModelError::Invalid { path: self.path.clone(), reason }
    }

    /// Shape of a tensor that must be there.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] where it is missing; `expected` says what its shape would be.
    pub fn require(&self, name: &str, expected: &str) -> Result<&[usize], ModelError> {
        self.shape(name).ok_or_else(|| {
            self.invalid(format!("tensor `{name}` is missing; expected one of shape {expected}"))
        })
    }

    /// The values of a tensor that must be there and have that shape.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] where it is missing, has another shape or type, or holds a NaN or an infinity.
    pub fn read(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, ModelError> {
        let found = self.require(name, &format!("{expected:?}"))?;
        if found != expected {
            let reason = format!("tensor `{name}` has shape {found:?}, expected {expected:?}");
            return Err(self.invalid(reason));
        }
        self.values(name)
    }

    /// The values of a tensor of any shape.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] where it is missing, is of another type, or holds a NaN or an infinity.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.require(name, "any")?;
        let entry = &self.tensors[name];
        let bytes = &self.bytes[entry.range.clone()];
        let values: Vec<f32> = match entry.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => {
                let (pairs, _) = bytes.as_chunks();
                pairs.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::BF16 => {
                let (pairs, _) = bytes.as_chunks();
                pairs.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
            }
            other => {
                let reason = format!("tensor `{name}` holds {other:?}, expected F32, F16 or BF16");
                return Err(self.invalid(reason));
            }
        };
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => Err(self.invalid(format!(
                "tensor `{name}` holds {} at element {at}, expected finite numbers",
                values[at]
            ))),
        }
    }
}

/// A whole file, refused beyond [`FILE_LIMIT_BYTES`].
///
/// # Errors
/// [`ModelError::Read`], [`ModelError::Invalid`].
pub fn read_limited(path: &Path) -> Result<Vec<u8>, ModelError> {
    let failed = |source| ModelError::Read { path: path.to_owned(), source };
    // Opening a pipe would wait without an end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        let reason = "is no regular file".to_owned();
        return Err(ModelError::Invalid { path: path.to_owned(), reason });
    }
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_LIMIT_BYTES {
        let reason = format!("is larger than the {FILE_LIMIT_BYTES} bytes allowed for weights");
        return Err(ModelError::Invalid { path: path.to_owned(), reason });
    }
    Ok(bytes)
}

fn not_safetensors(error: &safetensors::SafeTensorError) -> String {
    format!(
        "is no valid safetensors file ({error}); PyTorch's .pkl and .pth go through `slomod import` first"
    )
}
