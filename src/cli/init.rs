//! `slomod init`: a first configuration from a few questions, its folders, and what to do next.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::cli::init_folders::{self, Made};
use crate::cli::{CliError, manual, say};
use crate::config::file;
use crate::config::settings::{Device, FACTOR_RANGE, Mode};
use crate::error::ExitCode;

/// Where a package puts the samples that the shipped file names, and where the archive's `install` says they are.
const SHARED: &str = "/usr/share/slomod";
const SHARED_OF_ARCHIVE: &str = "/usr/local/lib/slomod/share/slomod";

/// Arguments of `slomod init`.
#[derive(Debug, Args)]
#[command(after_help = "\
What a flag says is not asked. The file explains every key; one that is there is replaced only where nobody has changed \
it since it was installed.

Examples:
  sudo slomod init
  slomod init --yes --watch ~/Videos/drop --output ~/Videos/slow --config ~/slomod.toml")]
pub struct InitArgs {
    /// The configuration to write.
    #[arg(short, long, value_name = "FILE", default_value = file::DEFAULT_PATH)]
    pub config: PathBuf,
    /// Folder to watch. [default: /srv/slomod/drop]
    #[arg(long, value_name = "DIR")]
    pub watch: Option<PathBuf>,
    /// Folder for results. [default: /srv/slomod/out]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// slow: longer, at the source's rate. smooth: same duration, more frames a second. [default: slow]
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// How many times slower, or in mode smooth how many times the frame rate, 2 to 16. [default: 4 slow, 2 smooth]
    #[arg(long, value_name = "N")]
    pub factor: Option<u32>,
    /// auto, cpu, cuda or cuda:N. [default: auto]
    #[arg(long)]
    pub device: Option<Device>,
    /// Folder of the journal. [default: /var/lib/slomod, or ~/.local/state/slomod for a FILE of your own]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Ask nothing: what no flag says has its default.
    #[arg(long)]
    pub yes: bool,
}

/// All answers.
struct Answers {
    watch: PathBuf,
    output: PathBuf,
    mode: Mode,
    factor: u32,
    device: Device,
    state_dir: Option<PathBuf>,
}

/// Asks, writes, makes folders, and says what to do next.
///
/// # Errors
/// Exit code 64 for wrong or missing answers, 73 where a file is there or cannot be written.
pub fn run(args: &InitArgs) -> Result<(), CliError> {
    // Before somebody has answered everything.
    let (replaced, shipped) = replaced(&args.config)?;
    let answers = answers(args, &mut Asker::of(args))?;
    let text = text(&shipped, &answers)?;
    let config = file::parse(&args.config, &text).map_err(|error| {
        // The line is that of a file that there is not yet.
        let message = format!("{error}; nothing was written");
        CliError::new(ExitCode::Usage, message)
    })?;
    let mut folders = vec![answers.watch.clone(), answers.output.clone()];
    folders.extend(answers.state_dir.clone());
    let made = init_folders::make(&folders)?;
    init_folders::write(&args.config, &text, replaced)?;
    say::line(format_args!("{}: written", args.config.display()))?;
    for folder in &made {
        say::line(format_args!(
            "{}: made{}",
            folder.path.display(),
            if folder.given { ", for user slomod" } else { "" }
        ))?;
    }
    say::print(next_steps(args, &config, &made))
}

/// What is at the place of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// Nothing.
    Nothing,
    /// The shipped file as it was shipped.
    Shipped,
}

/// What is at `path`, and the shipped text that the answers go into.
fn replaced(path: &Path) -> Result<(Replaced, String), CliError> {
    match std::fs::read_to_string(path) {
        Ok(text) if is_shipped(&text) => Ok((Replaced::Shipped, text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok((Replaced::Nothing, manual::SHIPPED.to_owned()))
        }
        Ok(_) => Err(CliError::new(
            ExitCode::CannotCreate,
            format!(
                "{}: is there already and is not overwritten: edit it, or write another with --config FILE",
                path.display()
            ),
        )),
        Err(error) => {
            let message = format!("{}: cannot be read: {error}", path.display());
            Err(CliError::new(ExitCode::CannotCreate, message))
        }
    }
}

/// Whether `text` is the shipped file, by a package or by the archive's `install`.
fn is_shipped(text: &str) -> bool {
    text.replace(SHARED_OF_ARCHIVE, SHARED) == manual::SHIPPED
}

/// Asks on the terminal, or takes every default.
enum Asker {
    Defaults,
    Terminal,
}

impl Asker {
    fn of(args: &InitArgs) -> Self {
        if args.yes { Self::Defaults } else { Self::Terminal }
    }

    /// The answer to `question`: again and again until `read` takes one.
    fn ask<T>(
        &mut self,
        question: &str,
        default: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, CliError> {
        let usage = |message: String| CliError::new(ExitCode::Usage, message);
        if matches!(self, Self::Defaults) {
            return read(default).map_err(usage);
        }
        loop {
            say::print(format_args!("{question} [{default}] "))?;
            let mut line = String::new();
            let length = std::io::stdin()
                .lock()
                .read_line(&mut line)
                .map_err(|error| usage(format!("no answer: {error}")))?;
            if length == 0 {
                say::line("")?;
                let message = "no answer: say it by flags, or take the defaults with --yes";
                return Err(usage(message.into()));
            }
            let line = line.trim();
            match read(if line.is_empty() { default } else { line }) {
                Ok(answer) => return Ok(answer),
                Err(problem) => say::line(format_args!("  {problem}"))?,
            }
        }
    }
}

fn answers(args: &InitArgs, asker: &mut Asker) -> Result<Answers, CliError> {
    let watch = match &args.watch {
        Some(path) => given("--watch", path)?,
        None => asker.ask("Folder where clips are dropped?", "/srv/slomod/drop", folder_of)?,
    };
    let output = match &args.output {
        Some(path) => given("--output", path)?,
        None => asker.ask("Folder for the results?", "/srv/slomod/out", folder_of)?,
    };
    let mode = match args.mode {
        Some(mode) => mode,
        None => {
            let question =
                "slow (longer, slow motion) or smooth (same length, more frames a second)?";
            asker.ask(question, "slow", |text| {
                Mode::from_str(text, true).map_err(|_| "write slow or smooth".into())
            })?
        }
    };
    let factor = |text: &str| {
        let number = text.parse().ok().filter(|it| FACTOR_RANGE.contains(it));
        number.ok_or_else(|| format!("{text} is no factor: use 2 to 16"))
    };
    let factor = match args.factor {
        Some(number) => factor(&number.to_string())
            .map_err(|problem| CliError::new(ExitCode::Usage, format!("--factor: {problem}")))?,
        None => {
            let question = match mode {
                Mode::Slow => "How many times slower (2 to 16)?",
                Mode::Smooth => "How many times the frame rate (2 to 16)?",
            };
            asker.ask(question, &mode.default_factor().to_string(), factor)?
        }
    };
    let device = match args.device {
        Some(device) => device,
        None => asker.ask("Device: auto, cpu, cuda or cuda:N?", "auto", str::parse)?,
    };
    let state_dir = args.state_dir.clone().or_else(|| own_state_dir(&args.config));
    let state_dir = state_dir.map(|path| given("--state-dir", &path));
    Ok(Answers { watch, output, mode, factor, device, state_dir: state_dir.transpose()? })
}

/// Where a person's own daemon keeps its journal (XDG Base Directory Specification); `None` for the service's file.
fn own_state_dir(config: &Path) -> Option<PathBuf> {
    if config == Path::new(file::DEFAULT_PATH) {
        return None;
    }
    let folder =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|it| it.is_absolute());
    let states = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    states.map(|it| it.join("slomod"))
}

/// The folder that a flag gives.
fn given(flag: &str, path: &Path) -> Result<PathBuf, CliError> {
    folder_of(path.to_str().unwrap_or_default()).map_err(|problem| {
        CliError::new(ExitCode::Usage, format!("{flag} {}: {problem}", path.display()))
    })
}

/// An absolute path from what a person wrote; a relative one counts from here.
fn folder_of(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("write a path in UTF-8, such as /srv/slomod/drop".into());
    }
    if text.starts_with('~') {
        return Err("write the path without ~, from / on".into());
    }
    std::path::absolute(text)
        .map(|path| path.components().collect())
        .map_err(|error| format!("{text}: {error}"))
}

/// The `shipped` configuration with the answers in it.
fn text(shipped: &str, answers: &Answers) -> Result<String, CliError> {
    let string = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let path = |path: &Path| string(path.to_str().unwrap_or_default());
    let mode = match answers.mode {
        Mode::Slow => "slow",
        Mode::Smooth => "smooth",
    };
    let mut text = shipped.to_owned();
    let mut changes = vec![
        ("[daemon]", "device", string(&answers.device.to_string())),
        ("[[watch]]", "path", path(&answers.watch)),
        ("[[watch]]", "output", path(&answers.output)),
        ("[[watch]]", "mode", string(mode)),
        ("[[watch]]", "factor", answers.factor.to_string()),
    ];
    if let Some(folder) = &answers.state_dir {
        changes.push(("[daemon]", "state_dir", path(folder)));
    }
    for (section, key, value) in changes {
        text = with(&text, section, key, &value).ok_or_else(|| {
            CliError::new(ExitCode::Software, format!("{section} {key} is not in the shipped file"))
        })?;
    }
    Ok(text)
}

/// `text` with another value of `key` in `section`; `None` where it is not there.
fn with(text: &str, section: &str, key: &str, value: &str) -> Option<String> {
    let begin = text.find(&format!("\n{section}\n"))?;
    let at = begin + text.get(begin..)?.find(&format!("\n{key} = "))? + 1;
    let end = at + text.get(at..)?.find('\n')?;
    Some(format!("{}{key} = {value}{}", text.get(..at)?, text.get(end..)?))
}

fn next_steps(args: &InitArgs, config: &file::Config, made: &[Made]) -> String {
    let file = args.config.display();
    let Some(watch) = config.watches.first() else { return String::new() };
    let is_of_service = args.config == Path::new(file::DEFAULT_PATH);
    let mut steps = Vec::new();
    let mut step = |text: String| steps.push(format!("  {}. {text}\n", steps.len() + 1));
    if is_of_service {
        let not_given = made.iter().any(|it| !it.given);
        if not_given {
            step("let user slomod write to the folders (chown slomod:slomod FOLDER)".into());
        }
        let is_open = |path: &Path, to: &str| path.starts_with(to);
        if !is_open(&watch.path, "/srv/slomod")
            || !is_open(&watch.output, "/srv/slomod")
            || !is_open(&config.daemon.state_dir, "/var/lib/slomod")
        {
            step("let the service see the folders: `slomod systemd-dropin --help` says how".into());
        }
        step(format!("see that all is well:  sudo -u slomod slomod check --config {file}"));
        step(
            "start it:              sudo systemctl enable slomod && sudo systemctl restart slomod"
                .into(),
        );
    } else {
        step(format!("see that all is well:  slomod check --config {file}"));
        step(format!("start it:              slomod daemon --config {file}"));
    }
    step(format!("copy a video into      {}", watch.path.display()));
    step(format!(
        "find the result in     {} (`slomod status --config {file}` tells how far it is)",
        watch.output.display()
    ));
    format!(
        "\nNext:\n{}\nEvery setting is explained in {file} and in `man slomod.toml`.\n",
        steps.concat()
    )
}
