"""Counts the operations of one training step: `python operations.py`. On a GPU each is at least one kernel.

Counted on the CPU: what PyTorch calls in the end, without views and allocations; an operation on many tensors at once
(`_foreach`, `_fused`) and a function made by the compiler count as one.
"""
import argparse

import torch
from torch.profiler import ProfilerActivity, profile

from masks import mask_bank
from scenes import Scenes
from textures import texture_bank
from trainee import Trainee

# Views and allocations, by the end of their names: no kernel.
FREE = ("view", "reshape", "expand", "as_strided", "permute", "select", "slice", "narrow", "transpose", "t", "unsqueeze", "empty",
        "empty_like", "empty_strided", "detach", "alias", "split", "chunk", "result_type", "_reshape_alias", "_unsafe_view", "item",
        "_local_scalar_dense", "is_nonzero", "new_empty", "expand_as", "squeeze", "split_with_sizes", "numpy_T", "resize_",
        "resolve_conj", "resolve_neg", "view_as", "set_data", "contiguous", "lift_fresh", "detach_")


def count(event):
    name = event.name
    if name.startswith(("aten::_foreach", "aten::_fused", "graph_", "triton_")) or name.startswith("## Call CompiledFxGraph"):
        return 1
    below = sum(count(child) for child in event.cpu_children)
    return below or int(name.startswith("aten::") and name[6:] not in FREE)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    ap.add_argument("--steps", type=int, default=20, help="before the one that is counted; their losses are printed")
    ap.add_argument("--compile", action="store_true")
    args = ap.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cpu")
    textures, softness = texture_bank([], 20, 96, 5, device)
    torch.manual_seed(10)
    batch = Scenes(textures, softness, mask_bank(16, 96, 6, device), 64, 4).draw()
    torch.manual_seed(7)
    trainee = Trainee("counted", (16,) * 5, 2e-3, device, precision=getattr(torch, args.precision), compiled=args.compile)
    trainee.prepare(batch, graph=False)
    losses = []
    for _ in range(args.steps):
        trainee.step(1, 0.01)
        losses.append(f"{trainee.stats[0].item():.6f}")
    print(*losses, flush=True)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        trainee.step(1, 0.01)
    print(f"{sum(count(event) for event in seen.events() if event.cpu_parent is None)} operations")


if __name__ == "__main__":
    main()
