//! Where the compiler of the kernels is on this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A compiler that was found.
#[derive(Debug)]
pub struct Found {
    /// `libnvrtc.so.12`.
    pub library: PathBuf,
    /// The library of its built-in headers, which it would look for on the loader's path.
    pub builtins: PathBuf,
    /// Folders with `cuda_fp16.h` and `nv/target`.
    pub includes: Vec<PathBuf>,
}

/// Versions that know all targets and whose machine code drivers of 12.x load; the same in `.ci/compiler`.
const VERSIONS: &[&str] = &["12.9", "12.8"];

/// The pinned compiler below the target folder, else a CUDA toolkit's; where there is neither, why and what to do.
///
/// # Errors
/// If the target folder cannot be written.
pub fn find(target: &Path) -> Result<Result<Found, String>, String> {
    let pinned = target.join("cuda-compiler");
    watch(&pinned.join("installed"))?;
    let wheels = pinned.join("nvidia");
    if let Some(found) = found(
        &wheels.join("cuda_nvrtc/lib"),
        &[wheels.join("cuda_runtime/include"), wheels.join("cuda_cccl/include")],
    ) {
        return Ok(Ok(found));
    }
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(|name| {
        println!("cargo::rerun-if-env-changed={name}");
        env::var_os(name).map(PathBuf::from)
    });
    let toolkits: Vec<PathBuf> = named.chain([PathBuf::from("/usr/local/cuda")]).collect();
    let found = toolkits.iter().find_map(|it| found(&it.join("lib64"), &[it.join("include")]));
    // The reason is embedded in the program, so it names no folder of the machine that builds.
    Ok(found.ok_or_else(|| {
        format!(
            "there was no compiler of CUDA kernels ({}) when slomod was built; `make build` brings it, or `.ci/compiler` \
             before `cargo build`",
            VERSIONS.join(" or ")
        )
    }))
}

/// Makes cargo run the build script again once the compiler was brought. The file must exist: cargo takes a missing one
/// for changed at every build.
fn watch(stamp: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-changed={}", stamp.display());
    if stamp.exists() {
        return Ok(());
    }
    let folder = stamp.parent().unwrap_or(stamp);
    fs::create_dir_all(folder)
        .and_then(|()| fs::File::create(stamp))
        // Older than this run, or cargo would take it for changed since.
        .and_then(|it| it.set_modified(SystemTime::UNIX_EPOCH))
        .map_err(|error| format!("{}: {error}", stamp.display()))
}

fn found(libraries: &Path, includes: &[PathBuf]) -> Option<Found> {
    let library = libraries.join("libnvrtc.so.12");
    let builtins = VERSIONS
        .iter()
        .map(|it| libraries.join(format!("libnvrtc-builtins.so.{it}")))
        .find(|it| it.exists())?;
    let has = |header: &str| includes.iter().any(|it| it.join(header).exists());
    let complete = library.exists() && has("cuda_fp16.h") && has("nv/target");
    complete.then(|| Found { library, builtins, includes: includes.to_vec() })
}
