//! Reports against their published schema: tests that make or read reports hold every one of them to it.
#![allow(dead_code, reason = "each test uses its own part")]

use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;
use slomod::report::Report;

static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::draft202012::new(&schema()).unwrap());

/// `config/report.schema.json`, which goes along where these tests are carried to another machine.
pub fn schema() -> Value {
    serde_json::from_str(include_str!("../../config/report.schema.json")).unwrap()
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
