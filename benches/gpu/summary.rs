//! One table and one file of everything that `gpu-check` wrote.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Kernels that are printed of each network.
const SLOWEST: usize = 8;

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
    for name in ["network", "kernels", "sweep", "pipeline", "convert", "pytorch"] {
        if let Ok(value) = serde_json::from_str::<Value>(&text(&format!("{name}.json"))) {
            all.insert(name.into(), value);
        }
    }
    print_rates(&all);
    print_kernels(&all);
    print_clip(&all);
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

/// The launches that take most of the time of a batch, of each network.
fn print_kernels(all: &Map<String, Value>) {
    let Some(rows) = all.get("kernels").and_then(|it| it["rows"].as_array()) else { return };
    let number = |row: &Value, field: &str| row[field].as_f64().unwrap_or(f64::NAN);
    let time = |row: &Value| number(row, "microseconds") * number(row, "launches");
    let largest = rows.iter().filter_map(|row| row["batch"].as_u64()).max();
    let mut of: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row["batch"].as_u64() == largest) {
        of.entry(plain(&row["network"])).or_default().push(row);
    }
    println!("\n| network | kernel | launches | us | of the time % | of peak % | GB/s |");
    println!("|---|---|---|---|---|---|---|");
    for (network, mut rows) in of {
        let sum: f64 = rows.iter().map(|row| time(row)).sum();
        rows.sort_by(|a, b| time(b).total_cmp(&time(a)));
        for row in rows.iter().take(SLOWEST) {
            let peak = row["percent_of_peak"].as_f64();
            println!(
                "| {network} | {} | {} | {:.1} | {:.0} | {} | {:.0} |",
                plain(&row["kernel"]),
                plain(&row["launches"]),
                time(row),
                100.0 * time(row) / sum,
                peak.map_or("-".to_owned(), |it| format!("{it:.0}")),
                number(row, "bytes") / number(row, "microseconds") / 1e3,
            );
        }
    }
}

/// What a clip through the pipeline and from file to file came to.
fn print_clip(all: &Map<String, Value>) {
    if let Some(row) = all.get("pipeline").and_then(|it| it["rows"].get(0)) {
        println!(
            "\nfirst picture after {} s; pipeline that throws pictures away {} a second; GPU beside CPU: mean \
             difference {} of 255, {} dB",
            row["first_picture_s"], row["pipeline_fps"], row["mean_difference"], row["psnr_db"]
        );
    }
    if let Some(report) = all.get("convert") {
        println!(
            "file to file with {}: {} frames a second; network {}, encoder {}",
            plain(&report["output"]["encoder"]),
            report["timing"]["end_to_end_fps"],
            report["timing"]["network_fps"],
            report["timing"]["encode_fps"]
        );
    }
}

/// A string without its quotes; anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
