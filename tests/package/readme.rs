//! The README and its translation: what they show works, and they show the same.

use std::fs;
use std::path::Path;

use slomod::config::file::parse;

use crate::{root, slomod, text};

const PAGES: [&str; 2] = ["README.md", "README.ko.md"];

/// Language and text of each block of code.
fn blocks(page: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let parts: Vec<&str> = text.split("```").collect();
    assert_eq!(parts.len() % 2, 1, "{page}: a block of code does not end");
    let block = |part: &&str| {
        let (language, body) = part.split_once('\n').unwrap();
        (language.to_owned(), body.to_owned())
    };
    parts.iter().skip(1).step_by(2).map(block).collect()
}

/// A block without its comments, which are translated.
fn commands(body: &str) -> Vec<String> {
    let command = |line: &str| line.split('#').next().unwrap_or_default().trim_end().to_owned();
    body.lines().map(command).filter(|it| !it.is_empty()).collect()
}

#[test]
fn configurations_in_the_readme_load() {
    for page in PAGES {
        let shown: Vec<_> = blocks(page).into_iter().filter(|it| it.0 == "toml").collect();
        assert!(shown.len() >= 2, "{page}");
        for (_, body) in shown {
            let config =
                parse(Path::new(page), &body).unwrap_or_else(|error| panic!("{error}\n{body}"));
            assert!(!config.watches.is_empty());
        }
    }
}

#[test]
fn commands_in_the_readme_have_the_flags_that_are_shown() {
    for page in PAGES {
        let mut seen = 0;
        for (_, body) in blocks(page).into_iter().filter(|it| it.0 == "sh") {
            for line in commands(&body) {
                let line = line.trim_start_matches("sudo ").trim_start_matches("-u slomod ");
                let Some(arguments) = line.strip_prefix("slomod ") else { continue };
                let arguments = arguments.split('|').next().unwrap_or_default();
                let words: Vec<&str> = arguments.split_whitespace().collect();
                let help = slomod(&[words[0], "--help"]);
                assert!(help.status.success(), "{page}: {line}: {}", text(&help));
                for flag in words.iter().filter(|it| it.starts_with("--")) {
                    assert!(text(&help).contains(flag), "{page}: {line}: no {flag}");
                }
                seen += 1;
            }
        }
        assert!(seen >= 10, "{page}: {seen}");
    }
}

#[test]
fn the_translation_shows_the_same_code_under_as_many_headings() {
    let [original, translation] = PAGES.map(|page| {
        blocks(page)
            .into_iter()
            .map(|(language, body)| (language, commands(&body)))
            .collect::<Vec<_>>()
    });
    assert_eq!(original, translation);
    let headings = PAGES.map(|page| {
        let text = fs::read_to_string(root().join(page)).unwrap();
        text.lines().filter(|it| it.starts_with("## ")).count()
    });
    assert_eq!(headings[0], headings[1]);
    let rows = PAGES.map(|page| {
        let text = fs::read_to_string(root().join(page)).unwrap();
        text.lines().filter(|it| it.starts_with('|')).count()
    });
    assert_eq!(rows[0], rows[1], "rows of tables");
}
