//! Rules of the code base that the compiler cannot check.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

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
    &["error", "frame"],
];

/// Lines a source file may have.
const LINES_MAX: usize = 500;

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

#[test]
fn every_file_says_what_it_is_for() {
    for (dir, extension, opening) in
        [("src", "rs", "//! "), ("tests", "rs", "//! "), ("benches", "rs", "//! ")]
    {
        for path in files(dir, extension) {
            let says = read(&path).starts_with(opening);
            assert!(says, "{}: first line must start with `{opening}`", path.display());
        }
    }
}

#[test]
fn no_file_is_too_long() {
    for path in ["src", "tests", "benches"].into_iter().flat_map(|dir| files(dir, "rs")) {
        let lines = read(&path).lines().count();
        assert!(
            lines <= LINES_MAX,
            "{}: {lines} lines; split it where each half has a good name",
            path.display()
        );
    }
}

#[test]
fn nothing_is_marked_unfinished() {
    for path in ["src", "tests", "benches"].into_iter().flat_map(|dir| files(dir, "rs")) {
        for (index, line) in read(&path).lines().enumerate() {
            let mark = UNFINISHED.iter().find(|mark| line.contains(**mark));
            assert!(mark.is_none(), "{}:{}: {}", path.display(), index + 1, mark.unwrap());
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
