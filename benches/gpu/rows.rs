//! What was measured so far, as JSON: written with every row, for a run may be cut off at any time.

use std::path::PathBuf;

use serde_json::{Value, json};
use slomod::backend::cuda::driver::Driver;

use super::device;

/// Rows of one table.
pub struct Rows {
    path: Option<PathBuf>,
    /// What they were measured on; of the first row on.
    device: Value,
    rows: Vec<Value>,
}

impl Rows {
    /// To be written to a file, or not at all.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, device: Value::Null, rows: vec![] }
    }

    /// Adds a row and writes all of them. A reader finds the file as it was before or as it is now.
    pub fn push(&mut self, row: Value) {
        self.rows.push(row);
        let Some(path) = &self.path else { return };
        if self.device.is_null() {
            self.device = about();
        }
        let mut all = self.device.clone();
        all["rows"] = Value::Array(self.rows.clone());
        let unfinished = path.with_extension("unfinished");
        std::fs::write(&unfinished, format!("{all:#}\n")).unwrap();
        std::fs::rename(unfinished, path).unwrap();
    }
}

/// The device that is measured.
fn about() -> Value {
    let device = device::open();
    let it = device.description();
    json!({
        "device": it.name,
        "compute_capability": format!("{}.{}", it.capability.0, it.capability.1),
        "multiprocessors": it.multiprocessors,
        "memory_bytes": it.memory_bytes,
        "driver_cuda_version": it.driver_version,
        "slomod": env!("CARGO_PKG_VERSION"),
    })
}
