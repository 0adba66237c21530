//! Reports of earlier releases: version 1 of the format only ever gets properties, and nobody has to have them.

use serde_json::{Map, Value, json};
use slomod::report::{Report, SCHEMA, Status};

use crate::schema::{faults, schema, valid};
use crate::{done, notice, value};

/// As the first builds of 0.1 wrote them, with all that they had. It is never changed; a release that adds properties may
/// add another.
const FIRST: &str = include_str!("../data/report-0.1.json");

/// Where what `$ref` names lies.
fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    match schema.get("$ref").or_else(|| schema.pointer("/anyOf/0/$ref")) {
        Some(Value::String(place)) => root.pointer(place.trim_start_matches('#')).unwrap(),
        _ => schema,
    }
}

#[test]
fn a_report_of_the_first_builds_is_valid_and_read() {
    let first: Value = serde_json::from_str(FIRST).unwrap();
    assert_eq!(faults(&first), Vec::<String>::new());
    let report: Report = serde_json::from_str(FIRST).unwrap();
    assert_eq!((report.schema.as_str(), report.status), (SCHEMA, Status::Done));
    assert_eq!((report.settings_sha256.as_ref(), report.attempts.len()), (None, 0));
    let (output, quality) = (report.output.as_ref().unwrap(), report.quality.as_ref().unwrap());
    assert_eq!((output.frames.real, output.frames.repaired), (90, 0));
    assert_eq!((&output.repeatable, &output.codec, &quality.encode), (&None, &None, &None));
    assert_eq!(quality.holdout.network.psnr_y_pooled_db, None);
    assert_eq!(report.source.fps_base, None);
    // Written again, it holds what it held, and is valid.
    let again = valid(&report);
    kept(&first, &again, "");
}

/// All that `before` holds is in `after`.
fn kept(before: &Value, after: &Value, at: &str) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                kept(value, &after[name], &format!("{at}/{name}"));
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len(), "{at}");
            let pairs = before.iter().zip(after).enumerate();
            pairs.for_each(|(index, (a, b))| kept(a, b, &format!("{at}/{index}")));
        }
        _ => assert_eq!(before, after, "{at}"),
    }
}

/// Walks the oldest report and the schema: what is required is what that report has.
fn assert_required(first: &Value, schema: &Value, root: &Value, at: &str) {
    let schema = resolved(schema, root);
    match first {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object().unwrap();
            let required = schema["required"].as_array().unwrap();
            for name in properties.keys() {
                let (is_required, was_there) =
                    (required.contains(&json!(name)), fields.contains_key(name));
                assert_eq!(is_required, was_there, "{at}/{name}");
            }
            for (name, value) in fields {
                assert_required(value, &properties[name], root, &format!("{at}/{name}"));
            }
        }
        Value::Array(items) => {
            for item in items {
                assert_required(item, &schema["items"], root, &format!("{at}/0"));
            }
        }
        _ => {}
    }
}

#[test]
fn what_the_first_builds_did_not_write_is_not_required() {
    let (first, schema): (Value, _) = (serde_json::from_str(FIRST).unwrap(), schema());
    assert_required(&first, &schema, &schema, "");
}

/// The pointers of all properties that may be left out, in objects that a report has.
fn optional(value: &Value, schema: &Value, root: &Value, at: &str, found: &mut Vec<String>) {
    let schema = resolved(schema, root);
    match value {
        Value::Object(fields) => {
            let none = Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&none);
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            for (name, value) in fields {
                let place = format!("{at}/{name}");
                optional(value, &properties[name], root, &place, found);
                if !required.contains(&json!(name)) {
                    found.push(place);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                optional(item, &schema["items"], root, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn what_is_not_required_may_be_left_out_of_any_report() {
    let mut report = done();
    report.warnings.push(notice("another"));
    let (full, schema) = (value(&report), schema());
    let mut places = Vec::new();
    optional(&full, &schema, &schema, "", &mut places);
    assert!(places.len() > 60, "{places:?}");
    for place in &places {
        let mut without = full.clone();
        let (around, name) = place.rsplit_once('/').unwrap();
        let around = without.pointer_mut(around).unwrap().as_object_mut().unwrap();
        assert!(around.remove(name).is_some(), "{place}");
        assert_eq!(faults(&without), Vec::<String>::new(), "{place}");
        let read: Result<Report, _> = serde_json::from_value(without);
        assert!(read.is_ok(), "{place}: {read:?}");
    }
}
