//! The compiled kernels: each exists for every target and uses no more than `kernels/budget.txt` allows.
//!
//! `SLOMOD_WRITE_BUDGET=1 cargo test --test kernel_budget` writes the budget anew from what the kernels use; with
//! `SLOMOD_WRITE_BUDGET=spills` even where registers are spilled to memory.

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

/// Registers of a thread, spilled bytes, local memory of a thread, static shared memory of a block and what a launch asks
/// for besides.
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
    if let Some(mode) = std::env::var_os("SLOMOD_WRITE_BUDGET") {
        let spills = used.iter().find(|(_, row)| row.values().any(|it| it.spill_bytes > 0));
        if let Some((kernel, _)) = spills.filter(|_| mode != "spills") {
            panic!("{kernel} spills registers; SLOMOD_WRITE_BUDGET=spills budgets that too");
        }
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
fn a_kernel_over_its_budget_is_named() {
    let use_of = |registers, spill_bytes| Use {
        registers,
        spill_bytes,
        stack_bytes: 0,
        shared_bytes: 64,
        dynamic_bytes: 1024,
    };
    let table = |kernel: &str, it: Use| {
        Table::from([(kernel.to_owned(), BTreeMap::from([("sm_90".to_owned(), it)]))])
    };
    let budget = table("conv", use_of(96, 0));
    assert_eq!(broken(&budget, &table("conv", use_of(96, 0))), Vec::<String>::new());
    assert_eq!(broken(&budget, &table("conv", use_of(80, 0))), Vec::<String>::new());
    assert!(
        broken(&budget, &table("conv", use_of(97, 0)))[0].contains("conv on sm_90: 97 registers")
    );
    assert!(broken(&budget, &table("conv", use_of(96, 4)))[0].contains("4 spilled bytes"));
    let more = Use { dynamic_bytes: 2048, ..use_of(96, 0) };
    assert!(broken(&budget, &table("conv", more))[0].contains("2048 bytes of dynamic shared"));
    assert_eq!(broken(&budget, &table("warp", use_of(96, 0))).len(), 2, "one missing, one extra");
}

#[test]
fn a_written_budget_reads_back_equal() {
    let row = |registers, shared_bytes| {
        let dynamic_bytes = 2 * shared_bytes;
        let it = Use { registers, spill_bytes: 12, stack_bytes: 16, shared_bytes, dynamic_bytes };
        BTreeMap::from([
            ("sm_75".to_owned(), it),
            ("sm_120".to_owned(), Use { registers: 7, ..it }),
        ])
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
        let dynamic_bytes = dynamic_bytes(it.kernel);
        let used = Use { registers, spill_bytes, stack_bytes, shared_bytes, dynamic_bytes };
        let row = table.entry(it.kernel.to_owned()).or_default();
        let before = row.insert(it.target.to_string(), used);
        assert!(before.is_none(), "two sources define {} for {}", it.kernel, it.target);
    }
    table
}

/// Shared memory that a launch asks for: of those that keep several chunks in flight, with one.
fn dynamic_bytes(kernel: &str) -> u32 {
    let tiled = instances::all().into_iter().find(|it| it.name == kernel);
    let bytes = match kernel {
        "deconv_fusion" => fusion::fused_shared_bytes(),
        _ => tiled.map(|it| it.shared_bytes(1)).or(flow::fused_shared_bytes(kernel)).unwrap_or(0),
    };
    u32::try_from(bytes).unwrap()
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
                ("spilled bytes", used.spill_bytes, allowed.spill_bytes),
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

/// One line a kernel, one column a target: registers, and `+spilled/local` where there are any; then shared memory, static
/// and dynamic.
fn written(table: &Table) -> String {
    let targets: BTreeSet<(usize, &String)> =
        table.values().flat_map(|row| row.keys().map(|it| (it.len(), it))).collect();
    let width = table.keys().map(String::len).max().unwrap_or_default();
    let mut text = format!(
        "# What each kernel may use, by target: registers of a thread, then +spilled/local bytes where there are any;\n\
         # last the shared memory of a block in bytes: static, and what a launch asks for with one chunk of channels in\n\
         # flight. Compiled by {}.\n\
         # Written by SLOMOD_WRITE_BUDGET=1 cargo test --test kernel_budget.\n{:width$}",
        images::compiler().split(" of ").next().unwrap(),
        "kernel"
    );
    targets.iter().for_each(|(_, it)| write!(text, " {it:>10}").unwrap());
    text.push_str("     static    dynamic\n");
    for (kernel, row) in table {
        write!(text, "{kernel:width$}").unwrap();
        for (_, target) in &targets {
            let it = row[*target];
            let mut cell = it.registers.to_string();
            if it.spill_bytes + it.stack_bytes > 0 {
                write!(cell, "+{}/{}", it.spill_bytes, it.stack_bytes).unwrap();
            }
            write!(text, " {cell:>10}").unwrap();
        }
        let shared = row.values().map(|it| it.shared_bytes).max().unwrap();
        let dynamic = row.values().map(|it| it.dynamic_bytes).max().unwrap();
        writeln!(text, " {shared:>10} {dynamic:>10}").unwrap();
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
        let bytes = |behind: usize| cells[cells.len() - behind].parse().unwrap();
        let (shared_bytes, dynamic_bytes) = (bytes(2), bytes(1));
        let row = targets.iter().zip(&cells[1..]).take(targets.len() - 2).map(|(target, cell)| {
            let (registers, memory) = cell.split_once('+').unwrap_or((cell, "0/0"));
            let (spill, stack) = memory.split_once('/').unwrap();
            let number = |it: &str| it.parse().unwrap();
            let allowed = Use {
                registers: number(registers),
                spill_bytes: number(spill),
                stack_bytes: number(stack),
                shared_bytes,
                dynamic_bytes,
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
