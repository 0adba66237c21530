//! Rules of the code base that the compiler cannot check.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The module stack, top to bottom. A module may use only rows below its own.
const STACK: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["daemon"],
    &["pipeline"],
    &["engine", "media", "quality", "report"],
    &["models"],
    &["backend"],
    &["ops"],
    &["config"],
    &["error", "frame", "hex", "plain_file"],
];

/// Lines a source file may have.
const LINES_MAX: usize = 500;

/// Lines a function of the program may have, and those that have more: each is one list of parts or cases.
const FUNCTION_LINES_MAX: usize = 70;
const LONG_FUNCTIONS: &[(&str, &str)] = &[
    ("src/backend/cpu/tests.rs", "check_conv"),
    ("src/media/write.rs", "create_with"),
    ("src/pipeline/convert.rs", "run"),
];

/// Modules of `ops` with no kernel of their name: `warp.cu` holds the resize, `color.cu` the levels, and a tensor is no op.
const OPS_WITHOUT_KERNEL: &[&str] = &["levels", "mod", "resize", "tensor"];

/// Kernel files that do the work of several ops in one pass, and those ops.
const FUSED: &[(&str, &[&str])] =
    &[("deconv_fusion", &["deconv", "fusion"]), ("stage_conv", &["flow", "conv"])];

/// The Rust side of what kernels take.
const PARAMS: &str = "src/backend/cuda/params.rs";

/// Marks of unfinished work, spelled apart so that this file does not find itself.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("unimplemented", "!("),
    concat!("todo", "!("),
];

#[test]
fn modules_use_only_lower_rows() {
    for path in files("src", "rs") {
        let module = module_of(&path);
        if module == "lib" {
            continue;
        }
        for (index, line) in read(&path).lines().enumerate() {
            let place = format!("{}:{}", path.display(), index + 1);
            assert!(!line.contains("crate::{"), "{place}: name one module per `use crate::`");
            for used in used_modules(line) {
                let allowed = used == module || row(&module) < row(&used);
                assert!(allowed, "{place}: `{module}` may not use `{used}`");
            }
        }
    }
}

#[test]
fn only_media_names_ffmpeg() {
    for path in files("src", "rs") {
        let names = read(&path).lines().any(|line| code(line).contains("ffmpeg_next"));
        assert!(
            !names || module_of(&path) == "media",
            "{}: FFmpeg belongs to media",
            path.display()
        );
    }
}

/// They panic where nobody reads, and a finished conversion would be lost.
#[test]
fn the_program_writes_to_no_standard_stream_by_macros_that_panic() {
    let macros = ["println", "eprintln", "print", "eprint"].map(|it| format!("{it}!("));
    for path in files("src", "rs") {
        let text = read(&path);
        let program = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (index, line) in program.lines().enumerate() {
            let found = macros.iter().find(|it| code(line).contains(*it));
            assert_eq!(found, None, "{}:{}: use cli/say", path.display(), index + 1);
        }
    }
}

/// What the README promises of the log: `journalctl -x` explains its lines.
#[test]
fn every_line_of_the_daemons_log_says_its_kind() {
    for path in files("src/daemon", "rs") {
        let text = read(&path);
        for word in ["error!(", "warn!(", "info!("] {
            for (at, _) in text.match_indices(&format!("log::{word}")) {
                let call = text[at..].split_once(';').map_or("", |it| it.0);
                let line = text[..at].lines().count();
                assert!(call.contains("MESSAGE_ID"), "{}:{line}: no MESSAGE_ID", path.display());
            }
        }
    }
}

/// What SQLite alone knows stays where the database is opened, described and counted: the statements are PostgreSQL's, too.
#[test]
fn the_journals_statements_are_not_sqlites_alone() {
    let apart = ["mod.rs", "schema.rs", "view.rs"];
    let statements = files("src/daemon/journal", "rs");
    let statements = statements.iter().filter(|it| !apart.iter().any(|name| it.ends_with(name)));
    let only =
        ["OR REPLACE", "OR IGNORE", "ROWID", "PRAGMA ", "STRFTIME", "DATETIME(", "GLOB ", "IIF("];
    let mut looked_at = 0;
    for path in statements {
        let text = read(path).to_uppercase();
        let code = text.split("#[CFG(TEST)]").next().unwrap_or_default();
        looked_at += code.matches("SELECT ").count();
        for word in only {
            assert!(!code.contains(word), "{}: {word}", path.display());
        }
    }
    assert!(looked_at > 10, "{looked_at}");
}

#[test]
fn every_file_says_what_it_is_for() {
    for (dir, extension, opening) in [
        ("src", "rs", "//! "),
        ("tests", "rs", "//! "),
        ("benches", "rs", "//! "),
        ("build", "rs", "//! "),
        ("fuzz", "rs", "//! "),
        ("kernels", "cu", "// "),
        ("kernels", "cuh", "// "),
        ("kernels", "h", "// "),
    ] {
        for path in files(dir, extension) {
            let says = read(&path).starts_with(opening);
            assert!(says, "{}: first line must start with `{opening}`", path.display());
        }
    }
}

#[test]
fn no_file_is_too_long() {
    for path in sources() {
        let lines = read(&path).lines().count();
        assert!(
            lines <= LINES_MAX,
            "{}: {lines} lines; split it where each half has a good name",
            path.display()
        );
    }
}

#[test]
fn no_function_is_too_long() {
    let mut long = BTreeSet::new();
    for path in files("src", "rs") {
        let text = read(&path);
        let mut begun: Option<(String, &str, usize)> = None;
        for (number, line) in text.lines().enumerate() {
            // As rustfmt writes them: a function ends with a brace below its first word.
            let indent = &line[..line.len() - line.trim_start().len()];
            if let Some((end, name, first)) = &begun {
                if line == end {
                    if number - first + 1 > FUNCTION_LINES_MAX {
                        long.insert((module_path(&path), (*name).to_owned()));
                    }
                    begun = None;
                }
            } else if let Some(name) = function_name(line) {
                begun = Some((format!("{indent}}}"), name, number));
            }
        }
    }
    let allowed = LONG_FUNCTIONS.iter().map(|(path, name)| (path.to_string(), name.to_string()));
    assert_eq!(long, allowed.collect());
}

/// The name of the function whose first line this is; none where it ends there.
fn function_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().peekable();
    while words
        .next_if(|it| it.starts_with("pub") || ["const", "async", "unsafe"].contains(it))
        .is_some()
    {}
    (words.next()? == "fn" && !line.ends_with([';', '}'])).then_some(())?;
    words.next()?.split(['(', '<']).next()
}

/// The path of a source below the project's folder.
fn module_path(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

#[test]
fn nothing_is_marked_unfinished() {
    for path in sources() {
        for (index, line) in read(&path).lines().enumerate() {
            let mark = UNFINISHED.iter().find(|mark| line.contains(**mark));
            assert!(mark.is_none(), "{}:{}: {}", path.display(), index + 1, mark.unwrap());
        }
    }
}

#[test]
fn no_test_picture_is_drawn_by_chance() {
    // Sources of FFmpeg that take another seed on each run unless they are given one. Colors of gradients are by chance
    // whatever the seed, each that is not named.
    let drawn_by_chance = ["gradients", "cellauto", "life"].map(|name| format!("{name}="));
    for path in files("tests", "rs") {
        for (index, line) in read(&path).lines().enumerate() {
            let drawn = drawn_by_chance.iter().any(|it| line.contains(it));
            let at = format!("{}:{}", path.display(), index + 1);
            assert!(!drawn || line.contains("seed="), "{at}: no seed");
            if line.contains(&drawn_by_chance[0]) {
                let count = line.split(":n=").nth(1).map_or(2, |it| it[..1].parse().unwrap());
                let missing = (0..count).find(|color| !line.contains(&format!(":c{color}=")));
                assert_eq!(missing, None, "{at}: a color without a name");
            }
        }
    }
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = read(Path::new("Cargo.toml"));
    let sections = manifest.split("\n[").filter(|it| it.contains("dependencies]"));
    for line in sections.flat_map(|section| section.lines().skip(1)) {
        let is_dependency = line.contains(" = ") && !line.starts_with('#');
        assert!(!is_dependency || line.contains(" # "), "Cargo.toml: `{line}` needs a reason");
    }
}

#[test]
fn every_kernel_file_has_an_op_of_the_same_name() {
    // Some ops have their tests in a file of their own.
    let ops: Vec<_> =
        files("src/ops", "rs").into_iter().filter(|it| !it.ends_with("tests.rs")).collect();
    let (ops, kernels) = (stems(&ops), stems(&files("kernels", "cu")));
    for kernel in &kernels {
        let fused = FUSED.iter().find(|(name, _)| name == kernel).map(|(_, ops)| *ops);
        for op in fused.unwrap_or(&[kernel]) {
            assert!(ops.contains(*op), "kernels/{kernel}.cu: there is no src/ops/{op}.rs");
        }
    }
    let without = |op: &str| OPS_WITHOUT_KERNEL.contains(&op);
    for op in ops.iter().filter(|it| !without(it) && !kernels.is_empty()) {
        assert!(kernels.contains(op), "src/ops/{op}.rs: there is no kernels/{op}.cu");
    }
}

#[test]
fn kernel_parameters_are_the_same_on_both_sides() {
    let mut kernels = BTreeMap::new();
    for path in ["cu", "cuh", "h"].into_iter().flat_map(|it| files("kernels", it)) {
        let all = path.file_name().is_some_and(|it| it == "params.h");
        let is_parameter = |name: &str| all || name.ends_with("Params");
        kernels.extend(structs(&read(&path), is_parameter, cuda_field));
    }
    let text = fs::read_to_string(PARAMS).unwrap_or_default();
    let host = structs(&text, |_| true, rust_field);
    for (name, fields) in &kernels {
        let twin = host.get(name).unwrap_or_else(|| panic!("{PARAMS}: no twin of `{name}`"));
        assert_eq!(fields, twin, "`{name}`: kernels/ and {PARAMS} differ");
        let layout = format!("#[repr(C)]\npub struct {name} {{");
        assert!(text.contains(&layout), "{PARAMS}: `{name}` needs #[repr(C)] right before it");
    }
    for name in host.keys() {
        assert!(kernels.contains_key(name), "{PARAMS}: `{name}` is in no file of kernels/");
    }
}

#[test]
fn parameter_structs_are_read_with_names_types_and_order() {
    let cuda = "struct View {\n    // Both.\n    const __half* record0;  // [n]\n    unsigned long long n;\n    \
                Earlier earlier[4];\n    int h;\n    float factor;\n};\n";
    let rust = "#[repr(C)]\npub struct View {\n    /// A.\n    pub record0: u64,\n    pub n: u64,\n    \
                pub earlier: [Earlier; 4],\n    pub h: i32,\n    pub factor: f32,\n}\n";
    let expected = ["record0: u64", "n: u64", "earlier: [Earlier; 4]", "h: i32", "factor: f32"];
    let expected = BTreeMap::from([("View".to_owned(), expected.map(String::from).to_vec())]);
    assert_eq!(structs(cuda, |_| true, cuda_field), expected);
    assert_eq!(structs(rust, |_| true, rust_field), expected);
}

/// The wanted structs: name, and each field as Rust writes it.
fn structs(
    text: &str,
    wanted: impl Fn(&str) -> bool,
    field: fn(&str) -> String,
) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let opening = line.trim_start_matches("pub ").strip_prefix("struct ");
        let name = opening.and_then(|it| it.strip_suffix(" {")).filter(|it| wanted(it));
        let Some(name) = name else { continue };
        let body = lines.by_ref().take_while(|it| !it.starts_with('}'));
        let fields =
            body.map(|it| code(it).trim()).filter(|it| !it.is_empty() && !it.starts_with('#'));
        found.insert(name.to_owned(), fields.map(field).collect());
    }
    found
}

/// `const __half* src;` is `src: u64`.
fn cuda_field(line: &str) -> String {
    let declaration = line.strip_suffix(';').filter(|it| !it.contains(','));
    let declaration = declaration.unwrap_or_else(|| panic!("`{line}`: one field a line"));
    let (kind, name) = declaration.rsplit_once([' ', '*']).unwrap();
    let kind = match kind.trim() {
        _ if declaration.contains('*') => "u64",
        "unsigned long long" => "u64",
        "long long" => "i64",
        "unsigned" | "unsigned int" => "u32",
        "int" => "i32",
        "float" => "f32",
        other => other,
    };
    match name.split_once('[') {
        Some((name, len)) => format!("{name}: [{kind}; {}]", len.trim_end_matches(']')),
        None => format!("{name}: {kind}"),
    }
}

fn rust_field(line: &str) -> String {
    line.trim_start_matches("pub ").trim_end_matches(',').to_owned()
}

#[test]
fn every_case_is_mapped_to_tests_that_name_it() {
    let pages = [
        ("tests/INGEST.md", vec![("W", 40)]),
        ("tests/SERVICE.md", vec![("S", 13)]),
        ("tests/MEDIA.md", vec![("V", 30), ("Q", 11)]),
    ];
    for (page, letters) in pages {
        let rows = rows_of(page);
        for case in letters.into_iter().flat_map(|(letter, count)| cases(letter, count)) {
            let open = check_case(&rows, &case, page);
            assert!(!open, "{case} has no test, or is open");
            assert!(is_named(&rows, &case), "no test of {case} names it above its own function");
        }
    }
}

/// Whether the comment above one of the tests of `case` names it.
fn is_named(rows: &BTreeMap<String, String>, case: &str) -> bool {
    let names_it = |test: &str| {
        let (path, name) = test.split_once("::").unwrap();
        let source = read(Path::new(path));
        let (before, _) = source.split_once(&format!("fn {name}()")).unwrap();
        let lines = before.trim_end().lines().rev().map(str::trim_start);
        let own = lines.take_while(|it| it.starts_with("///") || it.starts_with("#["));
        own.into_iter().any(|it| it.starts_with("///") && it.contains(case))
    };
    rows[case].split('`').filter(|it| it.contains("::")).any(names_it)
}

/// The names of cases `letter`01 up to `count`.
fn cases(letter: &str, count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(move |number| format!("{letter}{number:02}"))
}

/// Last cell of every row of a page's table of cases, by the row's case; of several rows the first.
fn rows_of(page: &str) -> BTreeMap<String, String> {
    let page = read(Path::new(page));
    let row = |line: &str| {
        let (case, rest) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
        let (_, last) = rest.rsplit_once(" | ")?;
        (case.len() == 3).then(|| (case.to_owned(), last.to_owned()))
    };
    page.lines().filter_map(row).collect::<Vec<_>>().into_iter().rev().collect()
}

/// Holds the row of a case to tests that exist; whether it is open, at least in part.
fn check_case(rows: &BTreeMap<String, String>, case: &str, page: &str) -> bool {
    let row = rows.get(case).unwrap_or_else(|| panic!("{case} is not in {page}"));
    let open = row.split("<br>").any(|it| it.starts_with("open: "));
    let tests: Vec<&str> = row.split('`').filter(|it| it.contains("::")).collect();
    assert!(open || !tests.is_empty(), "{case} has no test in {page}");
    for test in tests {
        let (path, name) = test.split_once("::").unwrap();
        let source = read(Path::new(path));
        assert!(source.contains(&format!("fn {name}()")), "{case}: there is no {test}");
    }
    open
}

/// Everything that is written by hand and compiled.
fn sources() -> Vec<PathBuf> {
    let rust =
        ["src", "tests", "benches", "build", "fuzz"].into_iter().flat_map(|it| files(it, "rs"));
    rust.chain(["cu", "cuh", "h"].into_iter().flat_map(|it| files("kernels", it))).collect()
}

fn stems(paths: &[PathBuf]) -> BTreeSet<String> {
    paths.iter().map(|it| it.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::from(dir)];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// `src/media/decode.rs` and `src/media/mod.rs` are `media`; `src/report.rs` is `report`.
fn module_of(path: &Path) -> String {
    let first = path.components().nth(1).unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_string_lossy().into_owned()
}

fn row(module: &str) -> usize {
    let row = STACK.iter().position(|row| row.contains(&module));
    row.unwrap_or_else(|| panic!("`{module}` is not in STACK"))
}

fn used_modules(line: &str) -> Vec<String> {
    let is_name = |c: &char| c.is_alphanumeric() || *c == '_';
    let parts = code(line).split("crate::").skip(1);
    parts.map(|it| it.chars().take_while(is_name).collect()).collect()
}
