//! The manual page slomod.toml(5), made of the shipped configuration: what is explained there is explained here.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// The shipped configuration.
pub const SHIPPED: &str = include_str!("../../config/slomod.toml");

/// A part of the configuration as a reader sees it.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Sentences that belong to no key.
    Text(String),
    /// `[name]` or `[[name]]`.
    Section(String),
    /// A key.
    Key { name: String, value: String, is_set: IsSet, text: String },
}

/// Whether the shipped file sets a key, or shows it in a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IsSet {
    Set,
    Shown,
}

/// The page, as `man` reads it.
#[must_use]
pub fn page() -> String {
    let mut roff = Roff::new();
    let version = concat!("slomod ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["slomod.toml", "5", "", version, "slomod"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("slomod.toml - configuration of the slow\u{2d}motion folder daemon")]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([roman("/etc/slomod/slomod.toml")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([
        roman("A TOML file that "),
        bold("slomod daemon"),
        roman(" reads when it starts and at a reload. A key that is left out has the value shown here; "),
        bold("path"),
        roman(" and "),
        bold("output"),
        roman(" of a folder cannot be left out. "),
        bold("slomod check --config"),
        roman(" "),
        italic("FILE"),
        roman(" says what is wrong with a file, "),
        bold("slomod init"),
        roman(" writes one."),
    ]);
    for part in parts(SHIPPED) {
        match part {
            Part::Text(text) => {
                roff.control("PP", []);
                roff.text([roman(text)]);
            }
            Part::Section(name) => {
                roff.control("SH", [name.as_str()]);
            }
            Part::Key { name, value, is_set, text } => {
                roff.control("TP", []);
                roff.text(heading(name, value, is_set));
                roff.text([roman(text)]);
            }
        }
    }
    roff.control("SH", ["FILES"]);
    roff.text([italic("/etc/slomod/slomod.toml"), roman(", the file that the service reads.")]);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("slomod"), roman("(1), "), bold("slomod-check"), roman("(1), ")]);
    roff.text([bold("slomod-init"), roman("(1), "), bold("slomod.service"), roman("(8)")]);
    roff.render()
}

fn heading(name: String, value: String, is_set: IsSet) -> Vec<Inline> {
    let mut words = vec![bold(name)];
    match is_set {
        IsSet::Set => words.extend([roman(" = "), roman(value)]),
        IsSet::Shown => words.extend([roman(" (not set; for example "), roman(value), roman(")")]),
    }
    words
}

/// Reads the shipped file: comments before a key explain it.
fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut comment = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        let commented = line.strip_prefix('#').map(str::trim);
        if let Some((name, value)) = key(commented.unwrap_or(line)) {
            let is_set = if commented.is_some() { IsSet::Shown } else { IsSet::Set };
            let mut value = value.to_owned();
            // An array over several lines.
            while value.starts_with('[') && !value.ends_with(']') {
                let Some(more) = lines.next() else { break };
                value += &format!(" {}", more.trim());
            }
            let text = std::mem::take(&mut comment);
            parts.push(Part::Key { name: name.to_owned(), value, is_set, text });
        } else if let Some(name) = commented.filter(|it| it.starts_with("[[") && it.ends_with("]]"))
        {
            let before = std::mem::take(&mut comment);
            parts.push(Part::Section(name.to_owned()));
            parts.push(Part::Text(before));
        } else if let Some(sentence) = commented {
            let space = if comment.is_empty() || sentence.is_empty() { "" } else { " " };
            comment += &format!("{space}{sentence}");
        } else {
            let before = std::mem::take(&mut comment);
            let is_section = line.starts_with('[');
            if is_section {
                parts.push(Part::Section(line.to_owned()));
            }
            if !before.is_empty() {
                parts.push(Part::Text(before));
            }
        }
    }
    parts
}

/// `name = value`, where `name` is a key.
fn key(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(" = ")?;
    let is_key = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit());
    is_key.then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_only_shown_is_a_part_as_others() {
        let expected = [
            Part::Section("[[hook]]".into()),
            Part::Text("Any number.".into()),
            Part::Key {
                name: "a".into(),
                value: "1".into(),
                is_set: IsSet::Shown,
                text: "One.".into(),
            },
        ];
        assert_eq!(parts("# Any number.\n# [[hook]]\n# One.\n# a = 1\n"), expected);
    }

    #[test]
    fn comments_belong_to_the_key_behind_them() {
        let text = "# All.\n\n# Of it.\n[part]\n# One\n# two.\na = 1\nlist = [\n  1,\n]\n# Three.\n# b = \"x\"\n";
        let key = |name: &str, value: &str, is_set, text: &str| Part::Key {
            name: name.into(),
            value: value.into(),
            is_set,
            text: text.into(),
        };
        assert_eq!(
            parts(text),
            [
                Part::Text("All.".into()),
                Part::Section("[part]".into()),
                Part::Text("Of it.".into()),
                key("a", "1", IsSet::Set, "One two."),
                key("list", "[ 1, ]", IsSet::Set, ""),
                key("b", "\"x\"", IsSet::Shown, "Three."),
            ]
        );
    }
}
