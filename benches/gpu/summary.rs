//! One table and one file of everything that `gpu-check` wrote.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Reads `steps`, the JSON files and `REVISION`; writes `results.json` beside them and prints the tables.
pub fn write(folder: &Path) {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let mut all = Map::new();
    all.insert("gpu".into(), json!(text("gpu.txt").trim()));
    all.insert("revision".into(), json!(text("revision").trim()));
    let mut steps = vec![];
    for line in text("steps").lines() {
        let mut fields = line.split('\t');
        let mut field = || fields.next().unwrap_or_default().to_owned();
        steps.push(json!({ "step": field(), "ended": field(), "seconds": field() }));
    }
    all.insert("steps".into(), Value::Array(steps.clone()));
    for name in ["network", "kernels", "pipeline", "convert", "pytorch"] {
        if let Ok(value) = serde_json::from_str::<Value>(&text(&format!("{name}.json"))) {
            all.insert(name.into(), value);
        }
    }
    print_rates(&all);
    println!("\n| step | ended with | s |\n|---|---|---|");
    for step in &steps {
        let ended = match step["ended"].as_str().unwrap_or_default() {
            "0" => "ok".to_owned(),
            other if other.starts_with("skipped") => other.to_owned(),
            other => format!("FAILED ({other})"),
        };
        println!("| {} | {ended} | {} |", plain(&step["step"]), plain(&step["seconds"]));
    }
    let path = folder.join("results.json");
    std::fs::write(&path, format!("{:#}\n", Value::Object(all))).unwrap();
    println!("\n{}", path.display());
}

/// Pictures a second of slomod beside PyTorch's.
fn print_rates(all: &Map<String, Value>) {
    let rows = |name: &str| all.get(name).and_then(|it| it["rows"].as_array()).cloned();
    let mut theirs: BTreeMap<(String, String, String), f64> = BTreeMap::new();
    for row in rows("pytorch").unwrap_or_default() {
        let key = ["network", "size", "mode"].map(|field| plain(&row[field]));
        theirs.insert(key.into(), row["fps"].as_f64().unwrap_or(f64::NAN));
    }
    println!(
        "| network | size | slomod, device only | ahead, batches | PyTorch eager | PyTorch compiled | ratio |"
    );
    println!("|---|---|---|---|---|---|---|");
    for row in rows("network").unwrap_or_default() {
        // PyTorch's rows have no word for the widths: these are the full ones.
        let name = plain(&row["network"]).trim_end_matches(" full").to_owned();
        let size = plain(&row["size"]);
        let peer = |mode: &str| theirs.get(&(name.clone(), size.clone(), mode.into())).copied();
        let ours = row["device_fps"].as_f64().unwrap_or(f64::NAN);
        let shown = |value: Option<f64>| value.map_or("-".to_owned(), |it| format!("{it:.0}"));
        let ratio = peer("compiled").map_or("-".to_owned(), |it| format!("{:.1}", ours / it));
        println!(
            "| {name} | {size} | {ours:.0} | {} | {} | {} | {ratio} |",
            shown(row["ahead_batched_fps"].as_f64()),
            shown(peer("eager")),
            shown(peer("compiled")),
        );
    }
}

/// A string without its quotes; anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
