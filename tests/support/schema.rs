//! Reports against their published schema: tests that make reports hold every one of them to it.

use std::path::Path;

use serde_json::Value;
use slomod::report::Report;

/// `config/report.schema.json`.
pub fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/report.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What the schema finds wrong.
pub fn faults(report: &Value) -> Vec<String> {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    validator.iter_errors(report).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

/// The report as written, found to be as the schema says.
#[allow(dead_code, reason = "each test uses its own part")]
pub fn valid(report: &Report) -> Value {
    let value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!(faults(&value), Vec::<String>::new(), "{:?}", report.source.path);
    value
}
