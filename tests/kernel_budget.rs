//! The compiled kernels: each exists for every target and uses no more than `kernels/budget.txt` allows.
//!
//! `SLOMOD_WRITE_BUDGET=1 cargo test --test kernel_budget` writes the budget anew from what the kernels use. No kernel may
//! spill registers to memory, whatever the budget says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use slomod::backend::cuda::images::{self, Resources, Target};
use slomod::backend::cuda::{flow, fusion, instances};

const BUDGET: &str = "kernels/budget.txt";
const INSTANCES: &str = "kernels/instances.h";

/// What a kernel uses, or may use, by target.
type Table = BTreeMap<String, BTreeMap<String, Use>>;

/// Registers of a thread, spilled bytes, local memory of a thread, static shared memory of a block and the most that a launch
/// asks for besides; none where no launch fits the chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Use {
    registers: u32,
    spill_bytes: u32,
    stack_bytes: u32,
    shared_bytes: u32,
    dynamic_bytes: u32,
}

#[test]
fn kernels_keep_to_their_budget() {
    if !kernels_are_built() {
        return;
    }
    let used = used();
    let table = written(&used);
    // Past the capture of standard output: the table is in the log of every run.
    std::io::stderr().write_all(table.as_bytes()).unwrap();
    let never = never_allowed(&used);
    assert!(never.is_empty(), "{}", never.join("\n"));
    if std::env::var_os("SLOMOD_WRITE_BUDGET").is_some() {
        fs::write(BUDGET, table).unwrap();
        return;
    }
    let budget = read(&fs::read_to_string(BUDGET).expect("SLOMOD_WRITE_BUDGET=1 writes it"));
    let broken = broken(&budget, &used);
    assert!(broken.is_empty(), "{BUDGET} is not kept:\n{}", broken.join("\n"));
}

#[test]
fn every_kernel_exists_for_every_target() {
    if !kernels_are_built() {
        return;
    }
    let machine_code: Vec<Target> =
        images::targets().into_iter().filter(|it| matches!(it, Target::Cubin(_))).collect();
    for (kernel, row) in used() {
        for target in &machine_code {
            assert!(row.contains_key(&target.to_string()), "{kernel} is not there for {target}");
        }
        assert!(kernels_in_ptx().contains(&kernel), "{kernel} is not there as PTX");
    }
}

#[test]
fn every_instance_is_compiled() {
    let Ok(instances) = fs::read_to_string(INSTANCES) else {
        assert!(images::sources().is_empty(), "{INSTANCES} cannot be read");
        skip(&format!("no {INSTANCES}"));
        return;
    };
    if !kernels_are_built() {
        return;
    }
    let used = used();
    let names = instance_names(&instances);
    assert!(!names.is_empty(), "no instance is found in {INSTANCES}");
    for name in names {
        assert!(used.contains_key(&name), "{INSTANCES} names {name}, which no source compiles");
    }
}

#[test]
fn spilled_registers_and_shared_memory_that_a_chip_lacks_are_never_allowed() {
    let fine = Use {
        registers: 96,
        spill_bytes: 0,
        stack_bytes: 0,
        shared_bytes: 1024,
        dynamic_bytes: 63 << 10,
    };
    let on = |target: &str, it: Use| {
        Table::from([("conv".to_owned(), BTreeMap::from([(target.to_owned(), it)]))])
    };
    assert_eq!(never_allowed(&on("sm_75", fine)), Vec::<String>::new());
    let spilling = Use { spill_bytes: 4, ..fine };
    assert!(never_allowed(&on("sm_90", spilling))[0].contains("conv on sm_90 spills 4 bytes"));
    let large = Use { dynamic_bytes: 64 << 10, ..fine };
    assert!(never_allowed(&on("sm_75", large))[0].contains("66560 bytes of shared memory"));
    assert_eq!(never_allowed(&on("sm_80", large)), Vec::<String>::new());
}

#[test]
fn the_largest_launch_that_fits_a_chip_is_held() {
    // Of 14976 bytes a chunk of channels, four at the most.
    assert_eq!(dynamic_bytes("conv_3x3_n16_16x16", 227 << 10), 4 * 14976);
    assert_eq!(dynamic_bytes("conv_3x3_n16_16x16", 3 * 14976), 3 * 14976);
    assert_eq!(dynamic_bytes("conv_3x3_n16_16x16", 14975), 0, "it is never launched there");
    // Of four chunks of input channels all, or as many as fit.
    let all = fusion::fused_shared_bytes();
    assert_eq!(all.len(), 4);
    assert_eq!(dynamic_bytes("deconv_fusion", 227 << 10) as usize, all[3]);
    assert_eq!(dynamic_bytes("deconv_fusion", all[3] as u32 - 1) as usize, all[2]);
    assert_eq!(dynamic_bytes("add", 227 << 10), 0);
}

#[test]
fn a_kernel_over_its_budget_is_named() {
    let use_of = |registers| Use {
        registers,
        spill_bytes: 0,
        stack_bytes: 0,
        shared_bytes: 64,
        dynamic_bytes: 1024,
    };
    let table = |kernel: &str, it: Use| {
        Table::from([(kernel.to_owned(), BTreeMap::from([("sm_90".to_owned(), it)]))])
    };
    let budget = table("conv", use_of(96));
    assert_eq!(broken(&budget, &table("conv", use_of(96))), Vec::<String>::new());
    assert_eq!(broken(&budget, &table("conv", use_of(80))), Vec::<String>::new());
    let over = |more: Use| broken(&budget, &table("conv", more)).remove(0);
    assert!(over(use_of(97)).contains("conv on sm_90: 97 registers"));
    assert!(over(Use { stack_bytes: 8, ..use_of(96) }).contains("8 bytes of local memory"));
    assert!(over(Use { shared_bytes: 65, ..use_of(96) }).contains("65 bytes of static shared"));
    let more = Use { dynamic_bytes: 2048, ..use_of(96) };
    assert!(over(more).contains("2048 bytes of dynamic shared"));
    assert_eq!(broken(&budget, &table("warp", use_of(96))).len(), 2, "one missing, one extra");
}

#[test]
fn a_written_budget_reads_back_equal() {
    let row = |registers, shared_bytes| {
        let dynamic_bytes = 2 * shared_bytes;
        let it = Use { registers, spill_bytes: 0, stack_bytes: 16, shared_bytes, dynamic_bytes };
        let other = Use { registers: 7, stack_bytes: 0, shared_bytes: 3, dynamic_bytes: 0, ..it };
        BTreeMap::from([("sm_75".to_owned(), it), ("sm_120".to_owned(), other)])
    };
    let table =
        Table::from([("conv".to_owned(), row(96, 0)), ("warp".to_owned(), row(255, 49152))]);
    assert_eq!(read(&written(&table)), table);
}

#[test]
fn instances_are_read_from_macro_lines() {
    let text = "// CONV(no, 1)\nCONV(conv_a, 16, 8)\n#define CONV(...)\n  DECONV_X( deconv_b , 3)\n#undef CONV\n";
    assert_eq!(instance_names(text), ["conv_a", "deconv_b"]);
}

/// Whether there is something to look at. Where it must be there, it is an error that it is not.
fn kernels_are_built() -> bool {
    let Err(reason) = images::built() else { return true };
    let required = std::env::var_os("SLOMOD_REQUIRE_KERNELS").is_some();
    assert!(!required, "{reason}");
    skip(reason);
    false
}

fn used() -> Table {
    let mut table = Table::new();
    for it in images::resources() {
        let Resources { registers, spill_bytes, stack_bytes, shared_bytes, .. } = *it;
        let target = it.target.to_string();
        let dynamic_bytes = dynamic_bytes(it.kernel, shared_limit(&target));
        let used = Use { registers, spill_bytes, stack_bytes, shared_bytes, dynamic_bytes };
        let row = table.entry(it.kernel.to_owned()).or_default();
        let before = row.insert(target, used);
        assert!(before.is_none(), "two sources define {} for {}", it.kernel, it.target);
    }
    table
}

/// Shared memory that a block may ask for on the chips of a target, in bytes. Source: CUDA C++ Programming Guide 12.9,
/// technical specifications by compute capability.
fn shared_limit(target: &str) -> u32 {
    match target {
        "sm_75" => 64 << 10,
        "sm_80" => 163 << 10,
        "sm_86" | "sm_89" | "sm_120" => 99 << 10,
        "sm_90" | "sm_100" => 227 << 10,
        _ => panic!("{target}: how much shared memory has it?"),
    }
}

/// The most shared memory that a launch asks for on a chip that gives so much: with as many chunks of channels as fit. Nothing
/// where not even one does: there the host takes another kernel.
fn dynamic_bytes(kernel: &str, limit: u32) -> u32 {
    let all = match kernel {
        "deconv_fusion" | "deconv_fusion_cubic" => fusion::fused_shared_bytes(),
        _ => match instances::all().into_iter().find(|it| it.name == kernel) {
            // More channels than any network has: all the chunks that are of use.
            Some(it) => {
                (1..=it.stages_max(1 << 12)).map(|stages| it.shared_bytes(stages)).collect()
            }
            None => flow::fused_shared_bytes(kernel).into_iter().collect(),
        },
    };
    let all = all.into_iter().map(|bytes| u32::try_from(bytes).unwrap());
    all.filter(|bytes| *bytes <= limit).max().unwrap_or(0)
}

/// What no budget allows: spilled registers, and more shared memory than the chip gives.
fn never_allowed(used: &Table) -> Vec<String> {
    let mut said = Vec::new();
    for (kernel, row) in used {
        for (target, it) in row {
            if it.spill_bytes > 0 {
                said.push(format!("{kernel} on {target} spills {} bytes", it.spill_bytes));
            }
            let shared = it.shared_bytes + it.dynamic_bytes;
            if shared > shared_limit(target) {
                said.push(format!("{kernel} on {target}: {shared} bytes of shared memory"));
            }
        }
    }
    said
}

fn kernels_in_ptx() -> BTreeSet<String> {
    let newest = (u32::MAX, 0);
    let texts =
        images::sources().into_iter().map(|it| images::image_for(newest, it).unwrap().bytes);
    let texts: Vec<String> = texts.map(|it| String::from_utf8(it).unwrap()).collect();
    let entries = texts.iter().flat_map(|text| text.split(".entry ").skip(1));
    entries.map(|it| it.split('(').next().unwrap().trim().to_owned()).collect()
}

/// Every way in which the budget is not kept.
fn broken(budget: &Table, used: &Table) -> Vec<String> {
    let mut broken = Vec::new();
    for kernel in budget.keys().filter(|it| !used.contains_key(*it)) {
        broken.push(format!("{kernel} has a budget and does not exist"));
    }
    for (kernel, row) in used {
        for (target, used) in row {
            let Some(allowed) = budget.get(kernel).and_then(|it| it.get(target)) else {
                broken.push(format!("{kernel} on {target} has no budget"));
                continue;
            };
            for (what, used, allowed) in [
                ("registers", used.registers, allowed.registers),
                ("bytes of local memory", used.stack_bytes, allowed.stack_bytes),
                ("bytes of static shared memory", used.shared_bytes, allowed.shared_bytes),
                ("bytes of dynamic shared memory", used.dynamic_bytes, allowed.dynamic_bytes),
            ] {
                if used > allowed {
                    broken.push(format!(
                        "{kernel} on {target}: {used} {what}, {allowed} are allowed"
                    ));
                }
            }
        }
    }
    broken
}

/// One line a kernel, one column a target: registers, `+local` where there is any local memory, then shared memory, static
/// and dynamic, each behind a colon.
fn written(table: &Table) -> String {
    let targets: BTreeSet<(usize, &String)> =
        table.values().flat_map(|row| row.keys().map(|it| (it.len(), it))).collect();
    let width = table.keys().map(String::len).max().unwrap_or_default();
    let mut text = format!(
        "# What each kernel may use, by target: registers of a thread, +bytes of local memory of a thread where there are\n\
         # any, then bytes of shared memory of a block, static:the most that a launch asks for besides on such a chip, with\n\
         # as many chunks of channels in flight as fit it (0: none, or it is not launched there). Nothing may be spilled.\n\
         # Compiled by {}.\n\
         # Written by SLOMOD_WRITE_BUDGET=1 cargo test --test kernel_budget.\n{:width$}",
        images::compiler().split(" of ").next().unwrap(),
        "kernel"
    );
    targets.iter().for_each(|(_, it)| write!(text, " {it:>12}").unwrap());
    text.push('\n');
    for (kernel, row) in table {
        write!(text, "{kernel:width$}").unwrap();
        for (_, target) in &targets {
            let Use { registers, stack_bytes, shared_bytes, dynamic_bytes, .. } = row[*target];
            let mut cell = registers.to_string();
            if stack_bytes > 0 {
                write!(cell, "+{stack_bytes}").unwrap();
            }
            write!(cell, ":{shared_bytes}:{dynamic_bytes}").unwrap();
            write!(text, " {cell:>12}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn read(text: &str) -> Table {
    let mut lines = text.lines().filter(|it| !it.starts_with('#'));
    let targets: Vec<&str> = lines.next().unwrap().split_whitespace().skip(1).collect();
    let mut table = Table::new();
    for line in lines {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells.len(), targets.len() + 1, "{BUDGET}: `{line}`");
        let row = targets.iter().zip(&cells[1..]).map(|(target, cell)| {
            let parts: Vec<&str> = cell.split(':').collect();
            let [thread, shared, dynamic] = parts[..] else { panic!("{BUDGET}: `{cell}`") };
            let (registers, stack) = thread.split_once('+').unwrap_or((thread, "0"));
            let number = |it: &str| it.parse().unwrap();
            let allowed = Use {
                registers: number(registers),
                spill_bytes: 0,
                stack_bytes: number(stack),
                shared_bytes: number(shared),
                dynamic_bytes: number(dynamic),
            };
            ((*target).to_owned(), allowed)
        });
        table.insert(cells[0].to_owned(), row.collect());
    }
    table
}

/// The first argument of every line that uses a macro.
fn instance_names(text: &str) -> Vec<String> {
    let is_macro = |it: &str| {
        !it.is_empty()
            && it.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit())
    };
    let uses = text
        .lines()
        .filter_map(|line| line.trim().split_once('('))
        .filter(|(name, _)| is_macro(name));
    uses.filter_map(|(_, rest)| Some(rest.split([',', ')']).next()?.trim().to_owned())).collect()
}
