//! Reports against their published schema: tests that make or read reports hold every one of them to it.
#![allow(dead_code, reason = "each test uses its own part")]

use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;
use slomod::report::Report;

static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::draft202012::new(&schema()).unwrap());

/// `config/report.schema.json`.
pub fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/report.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What the schema finds wrong.
pub fn faults(report: &Value) -> Vec<String> {
    VALIDATOR.iter_errors(report).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

/// The report as written, found to be as the schema says.
pub fn valid(report: &Report) -> Value {
    let value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!(faults(&value), Vec::<String>::new(), "{:?}", report.source.path);
    value
}

/// A report as it was written, found to be whole and as the schema says.
pub fn checked(text: &[u8]) -> Report {
    let said = || String::from_utf8_lossy(text);
    let value: Value = serde_json::from_slice(text)
        .unwrap_or_else(|error| panic!("half a report: {error}\n{}", said()));
    assert_eq!(faults(&value), Vec::<String>::new(), "{}", said());
    serde_json::from_value(value).unwrap()
}

/// The report of a file, found to be as the schema says.
pub fn read(path: &Path) -> Report {
    checked(&std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}
