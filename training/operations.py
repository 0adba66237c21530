"""Counts the operations of one training step: `python operations.py`; with `--device cuda`, which kernels take its time.

Counted is what PyTorch calls in the end, without views and allocations; an operation on many tensors at once (`_foreach`,
`_fused`) counts as one. On a GPU each is at least one kernel.
"""
import argparse

import torch
from torch.profiler import ProfilerActivity, profile

from ifnet import STANDARD
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
    if name.startswith(("aten::_foreach", "aten::_fused")):
        return 1
    below = sum(count(child) for child in event.cpu_children)
    return below or int(name.startswith("aten::") and name[6:] not in FREE)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    ap.add_argument("--steps", type=int, default=20, help="before the one that is counted; their losses are printed")
    ap.add_argument("--device", default="cpu", help="cuda: also the kernels by time, of scenes as large as in training")
    args = ap.parse_args()
    torch.set_num_threads(1)
    device = torch.device(args.device)
    on_gpu = device.type == "cuda"
    widths, crop, count_of_scenes = (STANDARD, 256, 20) if on_gpu else ((16,) * 5, 64, 4)
    textures, softness = texture_bank([], 20, 96, 5, device)
    torch.manual_seed(10)
    batch = Scenes(textures, softness, mask_bank(16, 96, 6, device), crop, count_of_scenes).draw()
    torch.manual_seed(7)
    trainee = Trainee("counted", widths, 2e-3, device, precision=getattr(torch, args.precision))
    trainee.prepare(batch, graph=False)
    losses = []
    for _ in range(args.steps):
        trainee.step(1, 0.01)
        losses.append(f"{trainee.stats[0].item():.6f}")
    print(*losses, flush=True)
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu) as seen:
        trainee.step(1, 0.01)
        if on_gpu:
            torch.cuda.synchronize()
    print(f"{sum(count(event) for event in seen.events() if event.cpu_parent is None)} operations")
    if on_gpu:
        print(seen.key_averages().table(sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=90))


if __name__ == "__main__":
    main()
