//! Drivers and devices that cannot be used: what is said of each, and that `auto` goes on without.

use std::path::Path;
use std::process::Command;

use slomod::backend::cuda::driver::{DeviceError, Driver as _};
use slomod::backend::cuda::images;
use slomod::backend::cuda::nvidia::Nvidia;
use slomod::backend::cuda::nvidia::find::{self, FindError};
use slomod::config::settings::{Device, Settings};
use slomod::engine::EngineError;
use slomod::engine::open::{self, ON_THE_CPU};
use slomod::report::Report;

use super::{UUID, child, kernels_are_built, settings};
use crate::schema;
use crate::shim::library::{Library, build_folder};
use crate::shim::machine::skipped_on_gpu;

/// Why no engine is opened on that device of the stand-in, and why the device is none.
fn refused(index: u32) -> (FindError, String) {
    let Err(error) = open::open(&settings(Device::Cuda(index))) else { panic!("opened") };
    let found = Nvidia::open(index).unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&found.to_string()), "{said} of {found:?}");
    // What is no error of one device is one of all.
    if !matches!(found, FindError::NoSuchDevice { .. } | FindError::OldDevice { .. }) {
        let reason = open::open(&settings(Device::Auto)).unwrap().description().fallback_reason;
        assert!(reason.unwrap().starts_with(&found.to_string()));
    }
    (found, said)
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn old() {
    assert_eq!(find::devices().unwrap_err(), FindError::OldDriver { found: 12_010 });
    let engine = open::open(&settings(Device::Auto)).unwrap();
    let reason = engine.description().fallback_reason.unwrap();
    assert!(reason.contains("too old") && reason.contains("CPU"), "{reason}");
    let Err(error) = open::open(&settings(Device::Cuda(0))) else { panic!("opened") };
    let expected = if images::built().is_ok() { "535" } else { "built without GPU kernels" };
    assert!(error.to_string().contains(expected), "{error}");
}

/// The newest of the too old; what the stand-in says otherwise, 12.2, is the oldest that is taken.
#[test]
fn a_driver_that_is_too_old_is_refused_and_auto_takes_the_cpu() {
    assert!(child("drivers::old", &[("FAKE_CUDA_VERSION", "12010")]).status.success());
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn none() {
    assert_eq!(find::devices().unwrap_err(), FindError::NoDevice);
}

#[test]
fn a_driver_without_a_device_says_so() {
    assert!(child("drivers::none", &[("FAKE_CUDA_DEVICES", "0")]).status.success());
    assert!(child("drivers::none", &[("FAKE_CUDA_INIT", "100")]).status.success());
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn listed() {
    let find::Listing { devices, driver_version: version, .. } = find::devices().unwrap();
    let names: Vec<_> = devices.iter().map(|it| (it.name.as_str(), it.uuid.as_deref())).collect();
    assert_eq!((names, version), (vec![("Stand-in", Some(UUID))], 12_020));
}

#[test]
fn a_device_is_listed_with_its_own_number() {
    assert!(child("drivers::listed", &[]).status.success());
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn instance() {
    let devices = find::devices().unwrap().devices;
    assert_eq!(devices[0].uuid.as_deref(), Some(UUID.replace("GPU-f0", "MIG-01").as_str()));
}

#[test]
fn an_instance_of_a_divided_device_is_listed_with_the_instances_own_number() {
    assert!(child("drivers::instance", &[("FAKE_CUDA_MIG", "1")]).status.success());
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn unstarted() {
    let (found, said) = refused(0);
    assert!(
        matches!(&found, FindError::Start { reason } if reason.contains("the stand-in says so"))
    );
    assert!(said.contains("does not start") && said.contains("nvidia-smi"), "{said}");
    assert_eq!(find::devices().unwrap_err(), found);
}

#[test]
fn a_driver_that_does_not_start_is_said_in_its_own_words() {
    if kernels_are_built() {
        assert!(child("drivers::unstarted", &[("FAKE_CUDA_INIT", "999")]).status.success());
    }
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn beyond() {
    let (found, said) = refused(7);
    assert_eq!(found, FindError::NoSuchDevice { index: 7, count: 2 });
    assert!(said.contains("cuda:7") && said.contains("numbered from 0"), "{said}");
}

#[test]
fn a_device_that_is_not_there_is_said_with_how_many_are() {
    if kernels_are_built() {
        assert!(child("drivers::beyond", &[("FAKE_CUDA_DEVICES", "2")]).status.success());
    }
}

/// The numbers of three devices, by which they are told apart.
fn numbers() -> [String; 3] {
    ["ff", "fe", "fd"].map(|last| format!("{}{last}", &UUID[..UUID.len() - 2]))
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn several() {
    let engine = open::open(&settings(Device::Auto)).unwrap().description();
    let taken: usize = std::env::var("TAKEN").unwrap().parse().unwrap();
    assert_eq!(engine.gpu.unwrap().uuid.as_ref(), numbers().get(taken));
    if let Ok(silent) = std::env::var("FAKE_CUDA_SILENT") {
        let listing = find::devices().unwrap();
        assert_eq!(listing.devices.len(), 2);
        let said = listing.silent[0].to_string();
        assert!(said.contains(&format!("cuda:{silent}:")) && said.contains("nvidia-smi"), "{said}");
    }
}

#[test]
fn of_several_devices_auto_takes_the_first_with_room_and_leaves_out_one_that_says_nothing() {
    if kernels_are_built() {
        let most = ("FAKE_CUDA_OTHERS", "3000000000");
        for (environment, taken) in [
            (&[][..], "0"),
            (&[most], "1"),
            (&[most, ("FAKE_CUDA_CROWDED", "1")], "2"),
            (&[most, ("FAKE_CUDA_CROWDED", "2")], "0"),
            (&[("FAKE_CUDA_SILENT", "0")], "1"),
        ] {
            let environment = [environment, &[("FAKE_CUDA_DEVICES", "3"), ("TAKEN", taken)]];
            assert!(child("drivers::several", &environment.concat()).status.success(), "{taken}");
        }
    }
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn volta() {
    let (found, said) = refused(0);
    assert_eq!(found, FindError::OldDevice { name: "Stand-in".into(), found: (7, 0) });
    assert!(said.contains("7.0") && said.contains("7.5"), "{said}");
}

#[test]
fn a_chip_from_before_turing_is_refused() {
    if kernels_are_built() {
        assert!(child("drivers::volta", &[("FAKE_CUDA_CAPABILITY", "70")]).status.success());
    }
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn other() {
    let (found, said) = refused(0);
    assert_eq!(found, FindError::OtherDevice { name: "Stand-in".into(), found: (11, 0) });
    assert!(said.contains("no kernels"), "{said}");
}

#[test]
fn a_chip_that_no_image_is_for_is_refused() {
    if kernels_are_built() {
        assert!(child("drivers::other", &[("FAKE_CUDA_CAPABILITY", "110")]).status.success());
    }
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn unloaded() {
    let (found, said) = refused(0);
    assert!(matches!(found, FindError::Device(_)), "{found:?}");
    assert!(said.contains("loading the kernels of") && said.contains("sm_90"), "{said}");
}

#[test]
fn an_image_that_the_driver_does_not_take_is_named() {
    if kernels_are_built() {
        assert!(child("drivers::unloaded", &[("FAKE_CUDA_IMAGES", "0")]).status.success());
    }
}

/// What kernels of the network's beginning, middle and end and one of the scores are called, and what is said without them.
const SKIPPED: [(&str, &str); 10] = [
    // Of formats that the trial's own pictures do not have.
    (
        "image_from_gbr_wide",
        "computes otherwise than the processor, by its kernel image_from_gbr_wide;",
    ),
    ("yuv422_from", "computes otherwise than the processor, by its kernel yuv422_from_image;"),
    ("luma8", "computes otherwise than the processor, by its kernel luma8;"),
    ("head_last", "makes other pictures than the processor"),
    // Shapes that the trial's own small pictures do not get.
    (
        "conv_3x3_n32_16x16",
        "computes otherwise than the processor, by its kernel conv_3x3_n32_16x16;",
    ),
    (
        "conv_3x3_s2_n64_8x16",
        "computes otherwise than the processor, by its kernel conv_3x3_s2_n64_8x16;",
    ),
    (
        "deconv_4x4_n64_8x16",
        "computes otherwise than the processor, by its kernel deconv_4x4_n64_8x16;",
    ),
    ("refine_shifts", "makes other pictures than the processor"),
    ("fusion_cubic", "makes other pictures than the processor"),
    ("ssim", "compares pictures otherwise than the processor"),
];

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn wrong() {
    let refine = std::env::var_os("UNREFINED").is_none();
    let wanted = |device| Settings { refine, ..settings(device) };
    let Err(error) = open::open(&wanted(Device::Cuda(0))) else { panic!("opened") };
    let said = error.to_string();
    assert!(matches!(error, EngineError::NoDevice { .. }), "{said}");
    let expected = std::env::var("SAID").unwrap();
    assert!(said.contains(&format!("Stand-in {expected}")), "{said}");
    assert!(said.contains("NVIDIA's driver") && said.contains("`cpu`"), "{said}");
    let engine = open::open(&wanted(Device::Auto)).unwrap().description();
    assert_eq!((engine.device_kind.as_str(), engine.psnr_from_cpu_db), ("cpu", None));
    let reason = engine.fallback_reason.unwrap();
    assert!(reason.contains(&expected) && reason.ends_with(ON_THE_CPU), "{reason}");
}

#[test]
fn a_device_that_computes_something_else_gets_no_clip() {
    if kernels_are_built() {
        for (kernel, said) in SKIPPED {
            let skipped = [("FAKE_CUDA_SKIPPED", kernel), ("SAID", said)];
            assert!(child("drivers::wrong", &skipped).status.success(), "{kernel}");
        }
        // At half the flow scale alone, as at the whole one this network's end is another kernel.
        let said = "makes other pictures than the processor";
        let half = [("FAKE_CUDA_SKIPPED", "fusion_cubic"), ("UNREFINED", ""), ("SAID", said)];
        assert!(child("drivers::wrong", &half).status.success());
    }
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn lost_at_once() {
    let Err(error) = open::open(&settings(Device::Cuda(0))) else { panic!("opened") };
    assert!(matches!(error, EngineError::Device(DeviceError::Lost { .. })), "{error:?}");
    let engine = open::open(&settings(Device::Auto)).unwrap().description();
    assert_eq!(engine.device_kind, "cpu");
    assert!(engine.fallback_reason.unwrap().contains("lost"));
}

#[test]
fn a_device_that_is_lost_while_it_is_tried_is_said_to_be() {
    if kernels_are_built() {
        assert!(child("drivers::lost_at_once", &[("FAKE_CUDA_LOST_AT", "50")]).status.success());
    }
}

/// What opening a device gives, its compute mode, what is said of that, and whether it may pass by itself.
const UNOPENED: [([&str; 2], &str, bool); 5] = [
    (["46", "3"], "another program has the device, whose compute mode (EXCLUSIVE_PROCESS)", true),
    (["46", "2"], "its compute mode (PROHIBITED) lets no program in", false),
    (["46", "0"], "another program may have it to itself", true),
    (["2", "0"], "no memory of the device is left for even this program's context", true),
    (["719", "0"], "lost while opening the device", false),
];

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn unopened() {
    let expected = std::env::var("SAID").unwrap();
    let passes = std::env::var_os("PASSES").is_some();
    let (_, said) = refused(0);
    assert!(said.contains(&expected) && !said.contains("bytes"), "{said}");
    let Err(error) = open::open(&settings(Device::Cuda(0))) else { panic!("opened") };
    assert_eq!(error.is_busy(), passes, "{error:?}");
    let engine = open::open(&settings(Device::Auto)).unwrap().description();
    assert_eq!(engine.device_busy, passes);
}

#[test]
fn a_device_that_others_have_is_not_said_to_be_lost() {
    if kernels_are_built() {
        for ([retain, mode], said, passes) in UNOPENED {
            let mut environment =
                vec![("FAKE_CUDA_RETAIN", retain), ("FAKE_CUDA_MODE", mode), ("SAID", said)];
            environment.extend(passes.then_some(("PASSES", "")));
            assert!(child("drivers::unopened", &environment).status.success(), "{said}");
        }
    }
}

/// What copies up and down beside the network count as, of memory of 8192 bytes that stays.
fn staged(device: &Nvidia) -> u64 {
    let address = device.allocate(8192).unwrap();
    device.upload_beside(0, &[(address, &[1; 100])]).unwrap();
    device.consumed(0).unwrap();
    device.download_beside(2, address, 5000).unwrap();
    device.allocated_bytes() - 8192
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn shared_with_the_host() {
    // The kernel's files may take all of it, and a test's machine has more than that to give.
    let device = Nvidia::open(0).unwrap();
    assert!(device.free_bytes().unwrap() > 64 << 20);
    assert_eq!(staged(&device), 4096 + 8192);
    device.empty_lanes();
    assert_eq!(device.allocated_bytes(), 8192, "the lanes' are given back");
    assert_eq!(device.peak_bytes(), 8192 + 4096 + 8192);
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn full() {
    let device = Nvidia::open(0).unwrap();
    assert_eq!(device.free_bytes(), Ok(1 << 20));
    assert_eq!(staged(&device), 0);
}

#[test]
fn of_the_hosts_memory_what_the_kernel_would_give_counts_as_free() {
    if kernels_are_built() {
        // All but a MiB of 256 is in use.
        let full = [("FAKE_CUDA_MEMORY", "268435456"), ("FAKE_CUDA_OTHERS", "267386880")];
        assert!(child("drivers::full", &full).status.success());
        let shared = [full[0], full[1], ("FAKE_CUDA_INTEGRATED", "1")];
        assert!(child("drivers::shared_with_the_host", &shared).status.success());
    }
}

/// Names of the functions that the stand-in has: all that are used.
fn functions() -> Vec<&'static str> {
    let source = include_str!("../shim/fake_cuda.cpp");
    let names = source.lines().filter_map(|line| line.strip_prefix("API ")?.split('(').next());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn lacking() {
    let lacked = std::env::var("LACKED").unwrap();
    let (found, said) = refused(0);
    assert!(matches!(found, FindError::Library { .. }), "{found:?}");
    assert!(said.contains(&lacked) && said.contains("535"), "{said}");
    assert_eq!(find::devices().unwrap_err(), found);
}

/// Once a device is open nothing is looked for in the library any more, so that nothing can be missed in mid-clip.
#[test]
fn every_function_of_the_driver_is_looked_for_before_a_device_is_opened() {
    let mut looked_for = find::FUNCTIONS.to_vec();
    looked_for.sort_unstable();
    assert_eq!(looked_for, functions());
    if !kernels_are_built() {
        return;
    }
    for lacked in ["cuDriverGetVersion", "cuGraphLaunch", "cuGetErrorName"] {
        let folder = build_folder().join(format!("without-{lacked}"));
        let folder = Library::fake_cuda_without(&folder, Some(lacked));
        let environment = [("LACKED", lacked), ("LD_LIBRARY_PATH", folder.to_str().unwrap())];
        assert!(child("drivers::lacking", &environment).status.success(), "{lacked}");
    }
}

/// What `slomod check` says of the GPU where `folder` comes first among the libraries.
fn check(folder: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_slomod"))
        .arg("check")
        .env("LD_LIBRARY_PATH", folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let gpu = said.lines().filter(|line| line.split_whitespace().nth(1) == Some("gpu"));
    gpu.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_library_that_lacks_functions_is_said_with_what_to_do() {
    if !kernels_are_built() || skipped_on_gpu("another library in the driver's place") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    Library::empty(&folder.path().join("libcuda.so.1"));
    let said = check(folder.path());
    assert!(said.contains("cannot be used") && said.contains("535"), "{said}");
}

#[test]
fn without_a_driver_it_is_said_which_one_to_install() {
    if !kernels_are_built() || skipped_on_gpu("a machine without a driver") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A machine that runs tests may have a driver of its own, which what is no library hides.
    std::fs::write(folder.path().join("libcuda.so.1"), "").unwrap();
    let said = check(folder.path());
    assert!(said.contains("no NVIDIA driver") && said.contains("535"), "{said}");
}

/// A conversion with `auto` on a machine whose library is the one in that folder.
fn convert_on_auto(libraries: &Path, environment: &[(&str, &str)]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let clip = folder.join("in.mp4");
    crate::bench::clip::drawn(&clip, (64, 48), 5);
    let report = folder.join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_slomod"))
        .arg("convert")
        .arg(&clip)
        .args(["--device", "auto", "--factor", "2", "--output"])
        .arg(folder.join("out.mp4"))
        .arg("--report")
        .arg(&report)
        .env("LD_LIBRARY_PATH", libraries)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    schema::read(&report)
}

#[test]
fn the_report_of_auto_without_a_gpu_says_why() {
    if !kernels_are_built() || skipped_on_gpu("machines without a GPU") {
        return;
    }
    let none = tempfile::tempdir().unwrap();
    std::fs::write(none.path().join("libcuda.so.1"), "").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let failing = Library::fake_cuda(folder.path());
    let cases = [
        (none.path(), &[][..], "no NVIDIA driver"),
        (&failing, &[("FAKE_CUDA_INIT", "999")], "does not start"),
    ];
    for (libraries, environment, why) in cases {
        let report = convert_on_auto(libraries, environment);
        let device = report.device.unwrap();
        assert!(device.fallback && device.kind == "cpu", "{device:?}");
        let reason = device.fallback_reason.unwrap();
        assert!(reason.contains(why) && reason.ends_with(ON_THE_CPU), "{reason}");
        let said: Vec<_> =
            report.warnings.iter().filter(|it| it.code == "device_fallback").collect();
        assert!(said.len() == 1 && said[0].message == reason, "{said:?}");
    }
}
