//! Faults planted one at a time in a copy of the kernels: the checks must notice each of them.
//!
//! Only the files of kernels that a fault touches are compiled, and of the convolutions only two instances.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::shim::driver::{ShimDriver, h200};
use crate::shim::library::{Library, build_folder, kernels_folder};
use crate::shim::machine::skipped_on_gpu;

/// Passes on the kernels as they are.
pub type Check = fn(&Arc<ShimDriver>) -> Result<(), String>;

/// A change of the source and the check that must fail on it.
pub struct Fault {
    /// What is wrong.
    pub title: &'static str,
    /// Where it is planted.
    pub file: &'static str,
    /// Text that occurs once there.
    pub old: &'static str,
    /// What stands there instead.
    pub new: &'static str,
    /// The files of kernels to compile, with blanks between.
    pub unit: &'static str,
    /// The check that must fail.
    pub check: Check,
}

fn all() -> Vec<Fault> {
    [
        crate::conv::faults(),
        crate::deconv::faults(),
        crate::head::faults(),
        crate::flow::faults(),
        crate::fusion::faults(),
        crate::refine::faults(),
        crate::fused::faults(),
        crate::color::faults(),
        crate::warp::faults(),
        crate::metrics::faults(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A copy of the kernels in a folder of its own, without most of the convolutions.
fn copy_kernels(name: &str) -> PathBuf {
    let copy = build_folder().join("faults").join(name);
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(kernels_folder()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let list = fs::read_to_string(copy.join("instances.h")).unwrap();
    let kept = |line: &&str| {
        let faulty = crate::conv::FAULTY.iter().chain(crate::fused::FAULTY);
        let is_conv = ["CONV(", "CONV_SPLIT(", "STAGE_CONV("].iter().any(|it| line.starts_with(it));
        !is_conv || faulty.into_iter().any(|name| line.contains(name))
    };
    let kept: Vec<_> = list.lines().filter(kept).collect();
    fs::write(copy.join("instances.h"), kept.join("\n") + "\n").unwrap();
    copy
}

fn run(kernels: &Path, unit: &str, check: Check) -> Result<(), String> {
    let units: Vec<_> = unit.split(' ').collect();
    let library = Library::build(kernels, &units, &build_folder().join("faults"))
        .unwrap_or_else(|said| panic!("{said}"));
    check(&ShimDriver::over(Arc::new(library), h200()))
}

/// `None` where it was noticed.
fn missed(index: usize, fault: &Fault) -> Option<String> {
    let copy = copy_kernels(&index.to_string());
    let path = copy.join(fault.file);
    let text = fs::read_to_string(&path).unwrap();
    let count = text.matches(fault.old).count();
    if count != 1 {
        return Some(format!("{}: the text occurs {count} times in {}", fault.title, fault.file));
    }
    fs::write(&path, text.replace(fault.old, fault.new)).unwrap();
    match run(&copy, fault.unit, fault.check) {
        Ok(()) => Some(format!("{}: not noticed", fault.title)),
        Err(message) => {
            println!("{}: {message}", fault.title);
            None
        }
    }
}

#[test]
fn every_planted_fault_is_noticed() {
    if skipped_on_gpu("planted faults") {
        return;
    }
    let faults = all();
    let mut checks: Vec<(&str, Check)> = Vec::new();
    for fault in &faults {
        if !checks.iter().any(|(unit, _)| *unit == fault.unit) {
            checks.push((fault.unit, fault.check));
        }
    }
    let next = AtomicUsize::new(0);
    let all_missed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let missed = match (checks.get(index), index.checked_sub(checks.len())) {
                        // Without a fault the same check passes.
                        (Some((unit, check)), _) => run(&copy_kernels(unit), unit, *check).err(),
                        (None, Some(at)) if at < faults.len() => missed(at, &faults[at]),
                        _ => break,
                    };
                    all_missed.lock().unwrap().extend(missed);
                }
            });
        }
    });
    let _ = fs::remove_dir_all(build_folder().join("faults"));
    let all_missed = all_missed.into_inner().unwrap();
    assert!(all_missed.is_empty(), "{}", all_missed.join("\n"));
}
