//! The machine, as reports name it.

use serde::{Deserialize, Serialize};

/// Where a system says what it is; the second where it has no first.
const RELEASES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// Name and version of the system, such as `Debian GNU/Linux 12 (bookworm)`; absent where it does not say.
    #[serde(default)]
    pub os: Option<String>,
}

/// The machine, as the kernel names it (`unknown` where `/proc` cannot be read), and its system.
#[must_use]
pub fn host() -> Host {
    let read = |path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let text = text.trim();
        if text.is_empty() { "unknown".to_owned() } else { text.to_owned() }
    };
    let release = RELEASES.iter().find_map(|path| std::fs::read_to_string(path).ok());
    Host {
        name: read("/proc/sys/kernel/hostname"),
        kernel: read("/proc/sys/kernel/osrelease"),
        os: release.and_then(|text| pretty_name(&text)),
    }
}

/// `PRETTY_NAME` of a file as os-release(5) describes it.
fn pretty_name(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="))?.trim();
    let quoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
    let mut plain = String::new();
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    (!plain.trim().is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_system_is_read_as_its_file_is_written() {
        for (text, expected) in [
            (
                "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
                "Debian GNU/Linux 12 (bookworm)",
            ),
            ("PRETTY_NAME='Alpine Linux v3.20'\n", "Alpine Linux v3.20"),
            ("PRETTY_NAME=Void\n", "Void"),
            ("PRETTY_NAME=\"a \\\"b\\\" \\$c\"\n", "a \"b\" $c"),
        ] {
            assert_eq!(pretty_name(text).as_deref(), Some(expected));
        }
        for text in ["", "NAME=\"Debian\"\n", "PRETTY_NAME=\"\"\n"] {
            assert_eq!(pretty_name(text), None, "{text}");
        }
    }
}
