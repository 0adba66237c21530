//! Official weights (PyTorch state dicts, safetensors) to checked safetensors. No Python, and nothing in the file runs.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::models::ModelError;
use crate::models::pyramid;
use crate::models::rife_v4::{Network, VERSION_KEYS, is_part};
use crate::models::torch_zip::{self, RawTensor, ZIP_MAGIC};
use crate::models::versions;
use crate::models::weights::{PARALLEL_PREFIX, Weights, read_limited};

/// First byte of a bare pickle: PyTorch's format from before 1.6.
const PICKLE_MAGIC: u8 = 0x80;
/// Where the header of a safetensors file begins, behind its length, whose first byte may be any.
const HEADER_AT: usize = 8;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportSummary {
    /// Layout, such as `rife v4.25/v4.26`.
    pub model_name: String,
    /// The file written.
    pub output: PathBuf,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Tensors in it.
    pub tensors: usize,
    /// Numbers in it.
    pub parameters: usize,
    /// What was left out, in words.
    pub notes: Vec<String>,
}

/// Reads weights, checks them and writes them as safetensors; the version is told by names and shapes.
///
/// # Errors
/// [`ModelError`]. Nothing is at `output` then that was not there before.
pub fn import(input: &Path, output: &Path) -> Result<ImportSummary, ModelError> {
    import_as(input, output, None)
}

/// [`import`] with the version said, such as `4.25.lite`: needed where one layout means two things.
///
/// # Errors
/// As [`import`]; [`ModelError::Invalid`] where the tensors are not laid out as in that version.
pub fn import_as(
    input: &Path,
    output: &Path,
    version: Option<&str>,
) -> Result<ImportSummary, ModelError> {
    let bytes = read_limited(input)?;
    let invalid = |reason| ModelError::Invalid { path: input.to_owned(), reason };
    let mut metadata = HashMap::new();
    let all = if bytes.starts_with(ZIP_MAGIC) {
        torch_zip::read(&bytes).map_err(invalid)?
    } else if bytes.first() == Some(&PICKLE_MAGIC) && bytes.get(HEADER_AT) != Some(&b'{') {
        return Err(invalid(
            "is in PyTorch's format from before 1.6; convert it once with any newer PyTorch: \
             torch.save(torch.load(IN, map_location='cpu', weights_only=True), OUT)"
                .to_owned(),
        ));
    } else {
        read_safetensors(&bytes, &mut metadata).map_err(invalid)?
    };
    if let Some(version) = version {
        metadata.insert(VERSION_KEYS[0].to_owned(), version.to_owned());
    }
    let source = hex(&Sha256::digest(&bytes));
    metadata.insert("slomod.source_sha256".to_owned(), source);
    let (tensors, notes) = inference_part(all).map_err(invalid)?;
    let file = serialize(&tensors, metadata).map_err(invalid)?;
    // The loader is the judge: what it refuses is not written.
    let weights = Weights::from_bytes(input, Cow::Owned(file.clone()))?;
    let network = Network::read(&weights)?;
    if let Some(version) = version.filter(|it| !versions::is_of(&network.name, it)) {
        let reason = format!("is laid out as {}, which version {version} is not", network.name);
        return Err(invalid(reason));
    }
    write_atomically(output, &file)?;
    Ok(ImportSummary {
        model_name: network.name,
        output: output.to_owned(),
        sha256: weights.sha256(),
        tensors: tensors.len(),
        parameters: tensors.values().map(|it| it.shape.iter().product::<usize>()).sum(),
        notes,
    })
}

/// The tensors of a safetensors file; its version, and the order of its blocks, go to `metadata`.
fn read_safetensors(
    bytes: &[u8],
    metadata: &mut HashMap<String, String>,
) -> Result<BTreeMap<String, RawTensor>, String> {
    let wrong =
        |error| format!("is neither a PyTorch checkpoint nor a valid safetensors file ({error})");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(wrong)?;
    let parsed = SafeTensors::deserialize(bytes).map_err(wrong)?;
    for key in VERSION_KEYS.into_iter().chain([pyramid::KEY]) {
        if let Some(value) = header.metadata().as_ref().and_then(|all| all.get(key)) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    let tensor = |(name, view): (String, TensorView<'_>)| {
        let (dtype, shape) = (view.dtype(), view.shape().to_vec());
        (name, RawTensor { dtype, shape, bytes: view.data().to_vec() })
    };
    Ok(parsed.tensors().into_iter().map(tensor).collect())
}

/// The tensors that inference uses, without `module.`, and what was left out.
fn inference_part(
    all: BTreeMap<String, RawTensor>,
) -> Result<(BTreeMap<String, RawTensor>, Vec<String>), String> {
    let (mut kept, mut left_out) = (BTreeMap::new(), BTreeMap::<String, usize>::new());
    for (name, tensor) in all {
        let plain = name.strip_prefix(PARALLEL_PREFIX).unwrap_or(&name);
        if !is_part(plain) {
            let group = plain.split('.').next().unwrap_or(plain);
            *left_out.entry(group.to_owned()).or_default() += 1;
        } else if kept.insert(plain.to_owned(), tensor).is_some() {
            return Err(format!("tensor `{plain}` is there with and without `{PARALLEL_PREFIX}`"));
        }
    }
    let note = |(group, count)| {
        format!("`{group}.*` ({count} tensors) is not used for inference and was left out")
    };
    Ok((kept, left_out.into_iter().map(note).collect()))
}

fn serialize(
    tensors: &BTreeMap<String, RawTensor>,
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>, String> {
    let mut views = vec![];
    for (name, tensor) in tensors {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)
            .map_err(|error| format!("tensor `{name}`: {error}"))?;
        views.push((name.as_str(), view));
    }
    safetensors::serialize(views, Some(metadata)).map_err(|error| error.to_string())
}

/// Writes beside the final name and renames, so that there is never half a file.
fn write_atomically(output: &Path, content: &[u8]) -> Result<(), ModelError> {
    let failed = |source| ModelError::Write { path: output.to_owned(), source };
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    // Temporary files are private; weights are for whoever runs the daemon.
    let public = std::fs::Permissions::from_mode(0o644);
    file.as_file().set_permissions(public).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(output).map_err(|error| failed(error.error))?;
    Ok(())
}
