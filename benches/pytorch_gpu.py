"""The same networks in PyTorch f16 on the GPU, eager and compiled: `python pytorch_gpu.py OUT.json`.

BENCH_SIZES, as of slomod's own benchmark, are the sizes; unless given, 1920x1080 first: a run may be cut off.
COMPILED names the networks that are compiled as well (all of them: v4.6,v4.22,v4.26): each takes a minute and more.
COMPILE_MODE is torch.compile's mode, reduce-overhead unless given; max-autotune takes several minutes a network.

Channels-last tensors, random weights and pictures; the features of both frames are computed for every picture. Medians
over CUDA events. Lines go to standard output as they come, all of them as JSON to OUT.json each time.
"""
import json
import os
import statistics
import sys

import torch
import torch.nn.functional as F

from pytorch import IFNet

NETWORKS = {
    "v4.6": ([192, 128, 96, 64], None),
    "v4.22": ([256, 192, 96, 48], (32, 8)),
    "v4.26": ([192, 128, 96, 64, 32], (16, 4)),
}
WARM_UP, REPEATS = 5, 30


def milliseconds(run):
    for _ in range(WARM_UP):
        run()
    times = []
    for _ in range(REPEATS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def main():
    out, sizes = sys.argv[1], os.environ.get("BENCH_SIZES", "1920x1080,1280x720,3840x2160").split(",")
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    rows = []
    for size in sizes:
        for name, (widths, head) in NETWORKS.items():
            multiple = 2 ** (len(widths) + 1)
            width, height = map(int, size.split("x"))
            padded = [-(-side // multiple) * multiple for side in (height, width)]
            base = F.interpolate(torch.rand(1, 3, 24, 40), size=padded, mode="bicubic").clamp(0, 1)
            form = dict(device="cuda", dtype=torch.float16, memory_format=torch.channels_last)
            images = [picture.to(**form) for picture in (base, torch.roll(base, (1, 3), (2, 3)))]
            timestep = torch.tensor([0.5], device="cuda", dtype=torch.float16)
            net = IFNet(widths, head).eval().to(**form)
            for mode in ("eager", "compiled"):
                if mode == "compiled" and name not in os.environ.get("COMPILED", ",".join(NETWORKS)).split(","):
                    continue
                run = torch.compile(net, mode=os.environ.get("COMPILE_MODE", "reduce-overhead")) if mode == "compiled" else net
                try:
                    with torch.inference_mode():
                        ms = milliseconds(lambda: run(*images, timestep))
                except Exception as error:  # a compiler that is missing there must not end the other measurements
                    print(f"{name} {size} {mode}: {type(error).__name__}: {error}".splitlines()[0], flush=True)
                    continue
                rows.append(dict(network=name, size=size, mode=mode, ms=ms, fps=1000 / ms))
                print(f"{name} {size} PyTorch f16 {mode}: {ms:.3f} ms, {1000 / ms:.1f} pictures/s", flush=True)
                write(out, rows)
                torch._dynamo.reset()


def write(out, rows):
    facts = dict(torch=torch.__version__, device=torch.cuda.get_device_name(), rows=rows)
    with open(out + ".unfinished", "w") as file:
        json.dump(facts, file, indent=1)
    os.replace(out + ".unfinished", out)


main()
