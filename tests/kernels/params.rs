//! The structs that kernels take by value are the same in `kernels/params.h` and in Rust.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Struct name to its fields' names, each with its size in bytes, or the type and count of a nested one.
type Structs = BTreeMap<String, Vec<(String, String)>>;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn in_c() -> Structs {
    let text = read("kernels/params.h");
    let mut structs = Structs::new();
    let mut name = None;
    for line in text.lines().map(|line| line.split("//").next().unwrap().trim()) {
        if let Some(rest) = line.strip_prefix("struct ") {
            name = Some(rest.trim_end_matches('{').trim().to_owned());
        } else if line == "};" {
            name = None;
        } else if let (Some(name), Some(field)) = (&name, line.strip_suffix(';')) {
            let (kind, field) = field.rsplit_once(' ').unwrap();
            let (field, count) = match field.split_once('[') {
                Some((field, count)) => (field, format!(" x {}", count.trim_end_matches(']'))),
                None => (field, String::new()),
            };
            let kind = match kind {
                _ if kind.ends_with('*') => "u64",
                "unsigned long long" => "u64",
                "int" => "i32",
                "float" => "f32",
                nested => nested,
            };
            let fields = structs.entry(name.clone()).or_default();
            fields.push((field.into(), format!("{kind}{count}")));
        }
    }
    structs
}

fn in_rust() -> Structs {
    let text = read("src/backend/cuda/params.rs");
    let mut structs = Structs::new();
    let mut name = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            name = Some(rest.trim_end_matches('{').trim().to_owned());
        } else if line == "}" {
            name = None;
        } else if let (Some(name), Some(field)) = (&name, line.strip_prefix("pub ")) {
            let (field, kind) = field.trim_end_matches(',').split_once(": ").unwrap();
            let kind = kind.trim_matches(['[', ']']).replace("; ", " x ");
            structs.entry(name.clone()).or_default().push((field.into(), kind));
        }
    }
    structs
}

#[test]
fn every_struct_has_the_same_fields_in_the_same_order() {
    let (c, rust) = (in_c(), in_rust());
    assert!(c.contains_key("ConvParams") && c.contains_key("FusionParams"), "{c:?}");
    assert_eq!(c.keys().collect::<Vec<_>>(), rust.keys().collect::<Vec<_>>());
    for (name, fields) in &c {
        assert_eq!(fields, &rust[name], "{name}");
    }
}
