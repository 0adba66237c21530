//! Build script: compiles `kernels/*.cu` for every target and leaves images and tables for `backend::cuda::images`.
//!
//! Needs no GPU, driver or CUDA toolkit: the compiler is a library that `.ci/compiler` brings. Without it the crate is
//! built all the same, with no kernels, a warning, and the reason in the tables; where `SLOMOD_REQUIRE_KERNELS` is set
//! that is an error.

mod cache;
#[expect(unsafe_code, reason = "the compiler is a C library")]
mod nvrtc;
mod package;
mod resources;
mod sources;
mod toolkit;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cache::Cache;
use nvrtc::Compiler;
use package::{Package, Packed};
use sources::Source;

/// Machine code is made for these compute capabilities, and PTX for chips that come after the last.
const CAPABILITIES: &[u32] = &[75, 80, 86, 89, 90, 100, 120];

/// The virtual architecture of the PTX.
const PTX_CAPABILITY: u32 = 120;

/// What one source is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Machine code for a compute capability times 10.
    Cubin(u32),
    /// PTX for a compute capability times 10.
    Ptx(u32),
}

/// A job and what became of it.
type Done<'a> = (&'a Source, Target, Result<Packed, String>);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={}", message.lines().next().unwrap_or_default());
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    let target = manifest.join(target);
    println!("cargo::rerun-if-changed=kernels");
    let package = match toolkit::find(&target)? {
        Ok(found) => compile_all(&manifest.join("kernels"), &target, &found)?,
        Err(reason) => {
            // Where there are kernels the variable changes nothing, so that a change of it builds nothing again.
            println!("cargo::rerun-if-env-changed=SLOMOD_REQUIRE_KERNELS");
            if env::var_os("SLOMOD_REQUIRE_KERNELS").is_some() {
                return Err(reason);
            }
            println!("cargo::warning=built without GPU support: {reason}");
            Package::without_kernels(reason)
        }
    };
    package.write(&out)
}

/// Every source for every target, in parallel, from the cache where it has been compiled before.
fn compile_all(folder: &Path, target: &Path, found: &toolkit::Found) -> Result<Package, String> {
    let compiler = Compiler::load(found, CAPABILITIES)?;
    let cache = Cache::open(&target.join("kernel-cache"))?;
    let sources = sources::read(folder)?;
    let targets: Vec<Target> = CAPABILITIES
        .iter()
        .map(|it| Target::Cubin(*it))
        .chain([Target::Ptx(PTX_CAPABILITY)])
        .collect();
    let jobs: Vec<(&Source, Target)> = sources
        .iter()
        .flat_map(|source| targets.iter().map(move |target| (source, *target)))
        .collect();
    let done = compile_jobs(&compiler, &cache, &jobs)?;
    cache.remove_old();
    let mut package = Package::with_compiler(compiler.name());
    // One message holds for all targets as a rule.
    let mut failures: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for (source, target, packed) in done {
        match packed {
            Ok(packed) => package.add(&source.name, target, &packed)?,
            Err(message) => {
                failures.entry((&source.name, message)).or_default().push(target.to_string());
            }
        }
    }
    let said: Vec<String> = failures
        .iter()
        .map(|((name, message), it)| format!("kernels/{name}.cu for {}: {message}", it.join(", ")))
        .collect();
    if said.is_empty() { Ok(package) } else { Err(said.join("\n")) }
}

/// Every job's outcome, in the order of the jobs; as many at a time as cargo may run.
fn compile_jobs<'a>(
    compiler: &Compiler,
    cache: &Cache,
    jobs: &[(&'a Source, Target)],
) -> Result<Vec<Done<'a>>, String> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = env::var("NUM_JOBS").ok().and_then(|it| it.parse().ok()).unwrap_or(1);
    thread::scope(|scope| {
        for _ in 0..jobs.len().min(threads) {
            scope.spawn(|| {
                while let Some((source, target)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let packed = compile(compiler, cache, source, *target);
                    if let Ok(mut done) = done.lock() {
                        done.push((*source, *target, packed));
                    }
                }
            });
        }
    });
    let mut done: Vec<Done<'a>> =
        done.into_inner().map_err(|_| "a thread that compiles kernels panicked")?;
    done.sort_by_key(|(source, target, _)| jobs.iter().position(|it| *it == (*source, *target)));
    Ok(done)
}

fn compile(
    compiler: &Compiler,
    cache: &Cache,
    source: &Source,
    target: Target,
) -> Result<Packed, String> {
    let key = source.key(compiler.name(), &target.to_string());
    if let Some(packed) = cache.get(&key) {
        return Ok(packed);
    }
    let (image, log) = compiler.compile(source, target)?;
    resources::refuse_warnings(&log)?;
    let packed = Packed::new(&image, log)?;
    cache.put(&key, &packed)?;
    Ok(packed)
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set: this program is run by cargo"))
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cubin(capability) => write!(f, "sm_{capability}"),
            Self::Ptx(capability) => write!(f, "compute_{capability}"),
        }
    }
}
