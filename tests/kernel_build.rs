//! The parts of the build script that decide what is compiled again and what fails the build.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
#![allow(dead_code, reason = "the build script uses the rest")]

#[path = "../build/resources.rs"]
mod resources;
#[path = "../build/sources.rs"]
mod sources;

use std::fs;
use std::path::Path;

/// As NVRTC 12.9 prints it; the third kernel was made up to hold what the others do not.
const LOG: &str = "\
ptxas info    : 1428 bytes gmem
ptxas info    : Compiling entry function 'head_middle' for 'sm_90'
ptxas info    : Function properties for head_middle
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 72 registers, used 1 barriers
ptxas info    : Compile time = 66.702 ms
ptxas info    : Compiling entry function 'warp' for 'sm_75'
ptxas info    : Function properties for warp
ptxas         .     16 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers, 16 bytes cumulative stack size, 8192 bytes smem, 388 bytes cmem[0]
ptxas info    : Function properties for not_inlined
ptxas         .     8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
";

#[test]
fn resources_are_read_from_the_log_of_the_assembler() {
    let kernel =
        |kernel: &str, registers, spill_bytes, stack_bytes, shared_bytes| resources::Resources {
            kernel: kernel.into(),
            registers,
            spill_bytes,
            stack_bytes,
            shared_bytes,
        };
    let expected = [kernel("head_middle", 72, 0, 0, 0), kernel("warp", 40, 40, 24, 8192)];
    assert_eq!(resources::parse(LOG).unwrap(), expected);
    assert!(
        resources::parse("ptxas info    : Compiling entry function 'a' for 'sm_75'\n").is_err()
    );
}

#[test]
fn resources_are_no_warning_and_anything_else_is() {
    resources::refuse_warnings(LOG).unwrap();
    for warning in [
        "kernels/conv.cu(3): warning #177-D: variable \"x\" was declared but never referenced",
        "ptxas warning : Value of threads per SM for entry conv is out of range",
    ] {
        let message = resources::refuse_warnings(&format!("{LOG}{warning}\n")).unwrap_err();
        assert!(message.ends_with(warning), "{message}");
    }
}

#[test]
fn a_source_is_compiled_again_when_what_it_includes_changes_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("a.cu", "#include \"a.cuh\"\n#ifdef SHIM\n#include \"absent.h\"\n#endif\n");
    write("a.cuh", "#include <cuda_fp16.h>\n#include \"deep.h\"\n#include \"a.cuh\"\n");
    write("deep.h", "int x;\n");
    write("b.cu", "// nothing\n");
    let before = keys(folder.path());
    write("deep.h", "int y;\n");
    let after = keys(folder.path());
    assert_ne!(before[0], after[0], "a.cu includes deep.h through a.cuh");
    assert_eq!(before[1], after[1], "b.cu includes nothing");
    write("other.h", "int z;\n");
    assert_eq!(after, keys(folder.path()), "nothing includes other.h");
}

#[test]
fn keys_differ_by_compiler_target_and_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.cu"), "").unwrap();
    fs::write(folder.path().join("b.cu"), "").unwrap();
    let sources = sources::read(folder.path()).unwrap();
    let key = sources[0].key("NVRTC 12.9", "sm_90");
    assert_ne!(key, sources[0].key("NVRTC 12.8", "sm_90"));
    assert_ne!(key, sources[0].key("NVRTC 12.9", "sm_89"));
    assert_ne!(key, sources[1].key("NVRTC 12.9", "sm_90"));
}

/// Keys by name of the source.
fn keys(folder: &Path) -> Vec<String> {
    let mut sources = sources::read(folder).unwrap();
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    sources.iter().map(|it| it.key("compiler", "sm_90")).collect()
}
