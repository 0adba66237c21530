//! What the crate embeds: one file of compressed images, and tables of what is where as Rust constants.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Target;
use crate::resources;

/// Of zstd: the highest whose reader needs no more memory than the image.
const LEVEL: i32 = 19;

/// A compiled source.
#[derive(Debug, PartialEq, Eq)]
pub struct Packed {
    /// The image, compressed.
    pub bytes: Vec<u8>,
    /// Length of the image.
    pub image_bytes: u64,
    /// What the compiler said.
    pub log: String,
}

impl Packed {
    /// Compresses an image.
    ///
    /// # Errors
    /// If it cannot be compressed.
    pub fn new(image: &[u8], log: String) -> Result<Self, String> {
        let bytes = zstd::bulk::compress(image, LEVEL);
        let bytes = bytes.map_err(|error| format!("compressing: {error}"))?;
        Ok(Self { bytes, image_bytes: image.len() as u64, log })
    }
}

/// Images and tables so far.
#[derive(Debug)]
pub struct Package {
    bytes: Vec<u8>,
    constants: String,
    images: String,
    resources: String,
}

impl Package {
    /// For a build that compiles.
    pub fn with_compiler(compiler: &str) -> Self {
        Self::new("None", compiler)
    }

    /// For a build that cannot compile, and why.
    pub fn without_kernels(reason: String) -> Self {
        Self::new(&format!("Some({reason:?})"), "")
    }

    fn new(missing: &str, compiler: &str) -> Self {
        let constants = format!(
            "const MISSING: Option<&str> = {missing};\n\
             const COMPILER: &str = {compiler:?};\n"
        );
        Self { bytes: Vec::new(), constants, images: String::new(), resources: String::new() }
    }

    /// Adds a compiled source.
    ///
    /// # Errors
    /// If the compiler's log is not understood.
    pub fn add(&mut self, source: &str, target: Target, packed: &Packed) -> Result<(), String> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&packed.bytes);
        let target = match target {
            Target::Cubin(it) => format!("Target::Cubin(({}, {}))", it / 10, it % 10),
            Target::Ptx(it) => format!("Target::Ptx(({}, {}))", it / 10, it % 10),
        };
        let _ = writeln!(
            self.images,
            "Packed {{ source: {source:?}, target: {target}, start: {start}, end: {}, image_bytes: {} }},",
            self.bytes.len(),
            packed.image_bytes
        );
        for it in resources::parse(&packed.log)? {
            let _ = writeln!(
                self.resources,
                "Resources {{ source: {source:?}, kernel: {:?}, target: {target}, registers: {}, spill_bytes: {}, \
                 stack_bytes: {}, shared_bytes: {} }},",
                it.kernel, it.registers, it.spill_bytes, it.stack_bytes, it.shared_bytes
            );
        }
        Ok(())
    }

    /// Writes `kernels.bin` and `kernels.rs`.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), String> {
        let tables = format!(
            "{}const IMAGES: &[Packed] = &[\n{}];\nconst RESOURCES: &[Resources] = &[\n{}];\n",
            self.constants, self.images, self.resources
        );
        for (name, content) in
            [("kernels.bin", self.bytes.as_slice()), ("kernels.rs", tables.as_bytes())]
        {
            let path = folder.join(name);
            fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}
