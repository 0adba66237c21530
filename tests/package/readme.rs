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
    let count = |beginning: &str| {
        PAGES.map(|page| {
            let text = fs::read_to_string(root().join(page)).unwrap();
            text.lines().filter(|it| it.starts_with(beginning)).count()
        })
    };
    for (what, beginning) in
        [("sections", "## "), ("parts of them", "### "), ("rows of tables", "|"), ("points", "- ")]
    {
        let [original, translation] = count(beginning);
        assert_eq!(original, translation, "{what}");
    }
    let paragraphs = PAGES.map(|page| {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let sections: Vec<&str> = text.split("\n## ").collect();
        let count =
            |section: &str| section.split("\n\n").filter(|it| !it.trim().is_empty()).count();
        sections.iter().map(|section| count(section)).collect::<Vec<_>>()
    });
    assert_eq!(paragraphs[0], paragraphs[1], "paragraphs by section");
}

/// What the README's table of troubles quotes is what the program says.
#[test]
fn the_symptoms_in_the_readme_are_sentences_of_the_program() {
    let sources = sources(&root().join("src"));
    for (symptom, said) in [
        ("Read-only file system", "cannot be written"),
        ("running on the CPU: ", "running on the CPU: "),
        ("cannot be read: Permission denied", "cannot be read: "),
        ("not the output folder that it was", "refusal_of_another(folder, \"output folder\""),
        ("not the folder of originals that it was", "\"folder of originals\""),
        ("that it was", "not the {what} that it was"),
        ("waits to be moved", "waits to be moved"),
        ("wait to be moved", "originals wait to be moved"),
        ("works with this output folder", "works with this output folder"),
        ("needed with the reserve", "needed with the reserve"),
        ("no inotify watches left", "no inotify watches left"),
        ("fs.inotify.max_user_instances", "fs.inotify.max_user_instances"),
    ] {
        for page in PAGES {
            let text = fs::read_to_string(root().join(page)).unwrap();
            assert!(text.contains(symptom), "{page}: {symptom}");
        }
        assert!(sources.contains(said), "{said}");
    }
}

/// The text of all sources below `folder`, in one line.
fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            all += &sources(&entry.path());
        } else {
            all += &fs::read_to_string(entry.path()).unwrap();
        }
    }
    all
}
