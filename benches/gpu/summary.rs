//! One table and one file of everything that `gpu-check` wrote, and which marks are reached.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Size and device that the marks are for.
const MARKED_SIZE: &str = "1920x1080";
const MARKED_DEVICE: &str = "H200";
/// Pictures a second of the network alone: the first mark and the next.
const RATE_MARKS: [(&str, [f64; 2]); 3] =
    [("v4.26", [1200.0, 2000.0]), ("v4.6", [1000.0, 1500.0]), ("v4.22", [800.0, 1250.0])];
/// Times as fast as compiled PyTorch, in the same run.
const PYTORCH_MARK: f64 = 5.0;
/// Seconds to the first picture.
const FIRST_PICTURE_MARK_S: f64 = 2.0;

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
    for name in ["network", "kernels", "sweep", "large", "pipeline", "convert", "pytorch"] {
        if let Ok(value) = serde_json::from_str::<Value>(&text(&format!("{name}.json"))) {
            all.insert(name.into(), value);
        }
    }
    print_rates(&all);
    print_kernels(&all);
    print_large(&all);
    print_clip(&all);
    let marks = marks(&all);
    print_marks(&all, &marks);
    let as_json = |it: &Mark| json!({ "mark": it.name, "wanted": it.wanted, "found": it.found, "reached": it.reached() });
    all.insert("marks".into(), marks.iter().map(as_json).collect());
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

/// Pictures a second of one network at one size.
#[derive(Debug, Default)]
struct Rates {
    network: String,
    size: String,
    alone: Option<f64>,
    batched: Option<f64>,
    ahead_batched: Option<f64>,
    eager: Option<f64>,
    compiled: Option<f64>,
}

fn rows<'a>(all: &'a Map<String, Value>, table: &str) -> &'a [Value] {
    all.get(table).and_then(|it| it["rows"].as_array()).map_or(&[], Vec::as_slice)
}

/// Of slomod and, where it was measured, of PyTorch.
fn rates(all: &Map<String, Value>) -> Vec<Rates> {
    let theirs = |network: &str, size: &str, mode: &str| {
        let row = rows(all, "pytorch")
            .iter()
            .find(|it| it["network"] == network && it["size"] == size && it["mode"] == mode);
        row.and_then(|it| it["fps"].as_f64())
    };
    let one = |row: &Value| {
        // PyTorch's rows have no word for the widths: these are the full ones.
        let network = plain(&row["network"]).trim_end_matches(" full").to_owned();
        let size = plain(&row["size"]);
        Rates {
            alone: row["device_fps"].as_f64(),
            batched: row["device_batched_fps"].as_f64(),
            ahead_batched: row["ahead_batched_fps"].as_f64(),
            eager: theirs(&network, &size, "eager"),
            compiled: theirs(&network, &size, "compiled"),
            network,
            size,
        }
    };
    rows(all, "network").iter().map(one).collect()
}

fn print_rates(all: &Map<String, Value>) {
    println!(
        "| network | size | device only | device only, batches | ahead, batches | PyTorch eager | PyTorch compiled | \
         ratio, one at a time | ratio, batches |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for it in rates(all) {
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            it.network,
            it.size,
            shown(it.alone, 0),
            shown(it.batched, 0),
            shown(it.ahead_batched, 0),
            shown(it.eager, 0),
            shown(it.compiled, 0),
            shown(over(it.alone, it.compiled), 1),
            shown(over(it.batched, it.compiled), 1),
        );
    }
}

/// Every launch of a batch, of each network: the longest first.
fn print_kernels(all: &Map<String, Value>) {
    let rows = rows(all, "kernels");
    let number = |row: &Value, field: &str| row[field].as_f64().unwrap_or(f64::NAN);
    let time = |row: &Value| number(row, "microseconds") * number(row, "launches");
    let largest = rows.iter().filter_map(|row| row["batch"].as_u64()).max();
    let mut of: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row["batch"].as_u64() == largest) {
        of.entry(plain(&row["network"])).or_default().push(row);
    }
    println!(
        "\n| network | kernel | launches | us | of the time % | of peak % | GB/s | of floor % |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (network, mut rows) in of {
        let sum: f64 = rows.iter().map(|row| time(row)).sum();
        rows.sort_by(|a, b| time(b).total_cmp(&time(a)));
        for row in rows {
            println!(
                "| {network} | {} | {} | {:.1} | {:.0} | {} | {:.0} | {} |",
                plain(&row["kernel"]),
                plain(&row["launches"]),
                time(row),
                100.0 * time(row) / sum,
                shown(row["percent_of_peak"].as_f64(), 0),
                number(row, "bytes") / number(row, "microseconds") / 1e3,
                shown(row["percent_of_floor"].as_f64(), 0),
            );
        }
    }
}

/// The largest pictures.
fn print_large(all: &Map<String, Value>) {
    println!("\n| network | size | tiles | a second | MB | tiles from whole dB |");
    println!("|---|---|---|---|---|---|");
    for row in rows(all, "large") {
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            plain(&row["network"]),
            plain(&row["size"]),
            row["tiles"],
            shown(row["fps"].as_f64(), 1),
            row["peak_bytes"].as_u64().unwrap_or_default() / 1_000_000,
            shown(row["psnr_from_whole_db"].as_f64(), 1),
        );
    }
}

/// What a clip through the pipeline and from file to file came to.
fn print_clip(all: &Map<String, Value>) {
    if let Some(row) = rows(all, "pipeline").first() {
        println!(
            "\nfirst picture after {} s; pipeline that throws pictures away {} a second; GPU beside CPU: mean \
             difference {} of 255, worst picture {} dB",
            row["first_picture_s"],
            row["pipeline_fps"],
            row["mean_difference"],
            row["psnr_worst_db"]
        );
    }
    for report in ["convert", "encode-on-gpu"].into_iter().filter_map(|it| all.get(it)) {
        println!(
            "file to file with {}: {} frames a second; network {}, encoder {}",
            plain(&report["output"]["encoder"]),
            report["timing"]["end_to_end_fps"],
            report["timing"]["network_fps"],
            report["timing"]["encode_fps"]
        );
    }
}

/// What is to be reached, and what was found.
#[derive(Debug, PartialEq)]
struct Mark {
    name: String,
    wanted: f64,
    /// At most so much is wanted, not at least.
    at_most: bool,
    found: Option<f64>,
}

impl Mark {
    /// None where it was not measured.
    fn reached(&self) -> Option<bool> {
        let found = self.found?;
        Some(if self.at_most { found <= self.wanted } else { found >= self.wanted })
    }
}

fn marks(all: &Map<String, Value>) -> Vec<Mark> {
    let rates = rates(all);
    let mut marks = vec![];
    let mut at_least =
        |name: String, wanted, found| marks.push(Mark { name, wanted, at_most: false, found });
    for (network, wanted) in RATE_MARKS {
        let of = rates.iter().find(|it| it.network == network && it.size == MARKED_SIZE);
        let ways = [
            ("one at a time", of.and_then(|it| it.alone)),
            ("in batches", of.and_then(|it| it.batched)),
        ];
        for wanted in wanted {
            for (way, found) in ways {
                at_least(format!("{network} alone, {way}, a second"), wanted, found);
            }
        }
        let compiled = of.and_then(|it| it.compiled);
        for (way, found) in ways {
            let name = format!("{network}, {way}, times compiled PyTorch");
            at_least(name, PYTORCH_MARK, over(found, compiled));
        }
    }
    let found = rows(all, "pipeline").first().and_then(|row| row["first_picture_s"].as_f64());
    let name = "first picture, s".to_owned();
    marks.push(Mark { name, wanted: FIRST_PICTURE_MARK_S, at_most: true, found });
    marks
}

fn print_marks(all: &Map<String, Value>, marks: &[Mark]) {
    println!(
        "\n| mark at {MARKED_SIZE} on an {MARKED_DEVICE} | wanted | found | |\n|---|---|---|---|"
    );
    for mark in marks {
        let word = match mark.reached() {
            None => "not measured",
            Some(true) => "reached",
            Some(false) => "missed",
        };
        println!("| {} | {} | {} | {word} |", mark.name, mark.wanted, shown(mark.found, 2));
    }
    let device = all.get("network").map(|it| plain(&it["device"])).unwrap_or_default();
    if !device.is_empty() && !device.contains(MARKED_DEVICE) {
        println!("\nThe marks are for an {MARKED_DEVICE}; this is another device: {device}.");
    }
}

fn over(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    Some(ours? / theirs?)
}

/// A number with so many digits behind the point; a dash where there is none.
fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |it| format!("{it:.digits$}"))
}

/// A string without its quotes; anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
