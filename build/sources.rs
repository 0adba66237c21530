//! The kernels' sources, and what decides whether one must be compiled again.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// One `.cu` file.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name without folder and ending.
    pub name: String,
    /// Its content.
    pub text: String,
    /// Where it and its headers are.
    pub folder: PathBuf,
    /// The headers of the folder that it includes, directly or not: name and content.
    headers: BTreeMap<String, String>,
}

impl Source {
    /// Options of the compiler beside target and folders. `-v` makes the assembler print each kernel's resources.
    ///
    /// Codes of pictures and measures of quality are to be those of the processor, digit for digit: there products and sums
    /// are rounded one by one.
    pub fn options(&self) -> Vec<&'static CStr> {
        let mut options = vec![c"--std=c++17", c"--ptxas-options=-v"];
        if ["color", "metrics"].contains(&self.name.as_str()) {
            options.push(c"--fmad=false");
        }
        options
    }

    /// Equal keys: equal images, compressed in the same way.
    pub fn key(&self, compiler: &str, target: &str) -> String {
        let mut hash = Sha256::new();
        for part in ["zstd", compiler, target, &self.name, &self.text] {
            add(&mut hash, part);
        }
        for option in self.options() {
            add(&mut hash, &option.to_string_lossy());
        }
        for (name, text) in &self.headers {
            add(&mut hash, name);
            add(&mut hash, text);
        }
        hex(hash)
    }
}

/// All sources of the folder, the longest first: it takes longest to compile.
///
/// # Errors
/// If the folder or a file cannot be read.
pub fn read(folder: &Path) -> Result<Vec<Source>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut sources = Vec::new();
    for path in entries.filter_map(|it| Some(it.ok()?.path())) {
        if path.extension().is_some_and(|it| it == "cu") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let mut headers = BTreeMap::new();
            add_headers(folder, &text, &mut headers);
            sources.push(Source { name, text, folder: folder.to_owned(), headers });
        }
    }
    sources.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then_with(|| a.name.cmp(&b.name)));
    Ok(sources)
}

/// Follows `#include "..."`. One that is not there is left to the compiler, which may never come to it.
fn add_headers(folder: &Path, text: &str, headers: &mut BTreeMap<String, String>) {
    for line in text.lines() {
        let quoted =
            line.trim_start().strip_prefix("#include \"").and_then(|it| it.split('"').next());
        let Some(name) = quoted.filter(|it| !headers.contains_key(*it)) else { continue };
        if let Ok(header) = fs::read_to_string(folder.join(name)) {
            headers.insert(name.to_owned(), header.clone());
            add_headers(folder, &header, headers);
        }
    }
}

/// The length comes first, so that no two lists of parts look alike.
fn add(hash: &mut Sha256, part: &str) {
    hash.update(part.len().to_le_bytes());
    hash.update(part);
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|it| format!("{it:02x}")).collect()
}
