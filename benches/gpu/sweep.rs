//! Every compiled shape of a tiled kernel for every convolution of the networks: what the choice of
//! `backend/cuda/instances.rs`, which is made by a model, costs against the fastest.

use serde_json::json;
use slomod::backend::cuda::backend::BATCH;
use slomod::backend::cuda::driver::{Driver, OwnedLaunch, Parameters};
use slomod::backend::cuda::instances::{self, Choice, Instance, Kind};
use slomod::backend::cuda::params::{ConvParams, DeconvParams};

use super::cost;
use super::device::{self, roughly};
use super::networks;
use super::pictures::{grouped, measured_size, steady_launches};
use super::rows::Rows;

/// Launches of one kind in a graph.
const COPIES: usize = 10;
/// Blocks of a transposed convolution behind each tile.
const PHASES: usize = 4;

/// What a launch works on.
struct Work {
    kind: Kind,
    stride: usize,
    /// Rows and columns over which tiles are laid.
    size: [usize; 2],
    cin: usize,
    /// Output channels, or those of the product.
    cout: usize,
    /// Pictures, or pictures times phases.
    n: usize,
}

/// Measures them all at the size of the other tables, alone and in batches.
pub fn sweep(kinds: &[networks::Kind], rows: &mut Rows) {
    let all = instances::all();
    for kind in kinds {
        let device = device::open();
        for batch in [1, BATCH] {
            let (launches, _kept) = steady_launches(device.clone(), kind, measured_size(), batch);
            println!("\n{}, pictures of a batch: {batch}\n", kind.name);
            println!("| convolution | launches | chosen | us | fastest | us |");
            println!("|---|---|---|---|---|---|");
            let (mut chosen_sum, mut fastest_sum) = (0.0, 0.0);
            for (launch, count) in grouped(&launches) {
                let Some(instance) = all.iter().find(|it| it.name == launch.kernel) else {
                    continue;
                };
                let Some(work) = work_of(&launch, instance) else { continue };
                let (mut tried, mut chosen, mut fastest) =
                    (vec![], None, (f64::MAX, String::new()));
                for other in all.iter().filter(|it| serves(it, &work)) {
                    for stages in 1..=other.stages_max(work.cin) {
                        let shared_bytes = other.shared_bytes(stages);
                        if shared_bytes > device.description().shared_bytes as usize {
                            continue;
                        }
                        let choice = Choice { instance: *other, stages, shared_bytes };
                        let one = launched_as(&launch, &choice, &work);
                        let us = 1e6 * roughly(&*device, std::slice::from_ref(&one), COPIES);
                        let name = format!("{} s{stages}", other.name);
                        if one == launch {
                            chosen = Some((us, name.clone()));
                        }
                        if us < fastest.0 {
                            fastest = (us, name.clone());
                        }
                        tried.push(json!([name, us]));
                    }
                }
                let chosen = chosen.expect("the choice is among the candidates");
                let [h, w] = work.size;
                let name = format!("{:?} {} -> {} over {w}x{h}", work.kind, work.cin, work.cout);
                println!(
                    "| {name} | {count} | {} | {:.1} | {} | {:.1} |",
                    chosen.1, chosen.0, fastest.1, fastest.0
                );
                chosen_sum += count as f64 * chosen.0;
                fastest_sum += count as f64 * fastest.0;
                rows.push(json!({
                    "network": kind.name, "batch": batch, "convolution": name, "launches": count, "stride": work.stride,
                    "chosen": chosen.1, "chosen_us": chosen.0, "fastest": fastest.1, "fastest_us": fastest.0,
                    "flop": cost::of(&launch, batch).flop, "tried": tried,
                }));
            }
            println!("\nchosen {chosen_sum:.0} us, fastest {fastest_sum:.0} us");
        }
    }
}

fn serves(instance: &Instance, work: &Work) -> bool {
    let divides = match work.kind {
        Kind::Conv => work.cout.is_multiple_of(instance.nb),
        _ => work.cout == instance.nb,
    };
    instance.kind == work.kind && instance.stride == work.stride && divides
}

fn work_of(launch: &OwnedLaunch, instance: &Instance) -> Option<Work> {
    let (kind, stride, depth) = (instance.kind, instance.stride, launch.grid[2] as usize);
    match kind {
        Kind::Conv => {
            let p: ConvParams = cost::read(launch);
            let (cin, cout) = (p.cin as usize, p.cout as usize);
            let size = [p.out_h as usize, p.out_w as usize];
            Some(Work { kind, stride, size, cin, cout, n: depth * instance.nb / cout })
        }
        Kind::Deconv => {
            let p: DeconvParams = cost::read(launch);
            let size = [p.h as usize, p.w as usize];
            Some(Work {
                kind,
                stride,
                size,
                cin: p.cin as usize,
                cout: instance.nb,
                n: depth / PHASES,
            })
        }
        _ => None,
    }
}

/// The same work by another instance.
fn launched_as(launch: &OwnedLaunch, choice: &Choice, work: &Work) -> OwnedLaunch {
    let params = match work.kind {
        Kind::Conv => {
            let mut p: ConvParams = cost::read(launch);
            p.stages = choice.stages as i32;
            p.as_bytes().to_vec()
        }
        _ => {
            let mut p: DeconvParams = cost::read(launch);
            p.stages = choice.stages as i32;
            p.as_bytes().to_vec()
        }
    };
    let depth = match work.kind {
        Kind::Conv => work.n * work.cout / choice.instance.nb,
        _ => work.n * PHASES,
    };
    OwnedLaunch::from(&choice.launch_of(work.size, depth, &params))
}
