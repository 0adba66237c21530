//! Manual pages and completions: whole, and clean by the tools that read them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{installed, package_files, root, slomod, text};

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
}

/// Subcommands that `slomod --help` lists.
fn subcommands() -> Vec<String> {
    let help = text(&slomod(&["--help"]));
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let name = |line: &str| line.strip_prefix("  ")?.split(' ').next().map(String::from);
    let found = list.lines().filter_map(name).filter(|it| !it.is_empty() && it != "help");
    found.collect()
}

#[test]
fn every_subcommand_has_a_page_and_is_completed_and_hidden_ones_are_not() {
    let (_folder, made) = package_files();
    let (pages, commands) = (names(&made.join("man")), subcommands());
    assert!(commands.contains(&"init".to_owned()), "{commands:?}");
    for page in ["slomod.1", "slomod.toml.5", "slomod.service.8"] {
        assert!(pages.contains(page), "{page}: {pages:?}");
    }
    for shell in ["slomod.bash", "_slomod", "slomod.fish"] {
        let words = fs::read_to_string(made.join("completions").join(shell)).unwrap();
        for command in &commands {
            assert!(pages.contains(&format!("slomod-{command}.1")), "{command}: {pages:?}");
            assert!(words.contains(command.as_str()), "{shell}: no {command}");
        }
        assert!(!words.contains("package-files"), "{shell}");
    }
    assert!(!pages.contains("slomod-work.1"), "{pages:?}");
}

#[test]
fn every_key_of_the_configuration_is_explained_in_the_manual() {
    let (_folder, made) = package_files();
    let page = fs::read_to_string(made.join("man/slomod.toml.5")).unwrap();
    let shipped = fs::read_to_string(root().join("config/slomod.toml")).unwrap();
    let mut keys = 0;
    for line in shipped.lines().map(|it| it.trim_start_matches("# ")) {
        let Some((key, _)) = line.split_once(" = ").filter(|it| !it.0.contains(' ')) else {
            continue;
        };
        keys += 1;
        let heading = format!(".TP\n\\fB{key}\\fR");
        let (_, behind) = page.split_once(&heading).unwrap_or_else(|| panic!("no {key}: {page}"));
        let explanation = behind.lines().nth(1).unwrap_or_default();
        assert!(explanation.len() > 10 && !explanation.starts_with('.'), "{key}: {explanation}");
    }
    assert!(keys > 30, "{keys}");
}

#[test]
fn man_reads_every_page_without_a_warning() {
    if !installed("man") {
        return;
    }
    let (_folder, made) = package_files();
    for page in names(&made.join("man")) {
        let path = made.join("man").join(&page);
        let output = Command::new("man")
            .args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(&path)
            .env("MANWIDTH", "80")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        assert!(output.status.success(), "{page}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{page}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn shells_read_their_completions() {
    let (_folder, made) = package_files();
    for (shell, file) in [("bash", "slomod.bash"), ("zsh", "_slomod"), ("fish", "slomod.fish")] {
        if !installed(shell) {
            continue;
        }
        let path = made.join("completions").join(file);
        let output = Command::new(shell).arg("-n").arg(&path).output().unwrap();
        assert!(output.status.success() && text(&output).is_empty(), "{shell}: {}", text(&output));
    }
    let script = "source \"$0\"; COMP_WORDS=(slomod sta); COMP_CWORD=1; _slomod slomod sta slomod; \
                  echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["-c", script])
        .arg(made.join("completions/slomod.bash"))
        .output();
    assert_eq!(text(&output.unwrap()).trim(), "status");
}
