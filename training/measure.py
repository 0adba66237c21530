"""Measures weights as `slomod evaluate --refine false` does: `python measure.py FILE.safetensors TRIPLETS`, PSNR in dB over 8-bit RGB."""
import argparse
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from export import read_network


def read_picture(path, device):
    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).to(device).permute(2, 0, 1).float() / 255


@torch.no_grad()
def interpolate(net, img0, img1, t):
    """Frames [3, h, w] of any size; padded with zeros to multiples of 64."""
    h, w = img0.shape[1:]
    pair = F.pad(torch.stack((img0, img1)), (0, -w % 64, 0, -h % 64))[None]
    merged = net(pair, torch.full((1,), t, device=img0.device), inside=(h, w))[-1][0]
    return merged[0, :, :h, :w].clamp(0, 1)


def psnr_db(squared_error):
    return -10 * math.log10(max(squared_error, 1e-10))


def measure_triplets(net, folder, device):
    """[(scene, PSNR in dB)] for each folder with frame10.png, frame11.png and gt.png."""
    out = []
    for gt in sorted(pathlib.Path(folder).glob("*/gt.png")):
        img0, img1, truth = (read_picture(gt.with_name(n), device) for n in ("frame10.png", "frame11.png", "gt.png"))
        guess = (interpolate(net, img0, img1, 0.5) * 255).round() / 255
        out.append((gt.parent.name, psnr_db((guess - truth).square().mean().item())))
    return out


@torch.no_grad()
def measure_drawn(net, held_out):
    """Mean PSNR in dB over drawn scenes, and the mean error of the flow in pixels."""
    pair, truth, flow, t = held_out
    psnr, error = [], []
    for i in range(pair.shape[0]):
        merged, estimate, _ = net(pair[i:i + 1], t[i:i + 1])[-1]
        psnr.append(psnr_db((merged.clamp(0, 1) - truth[i:i + 1]).square().mean().item()))
        error.append((estimate - flow[i:i + 1]).view(2, 2, *flow.shape[2:]).norm(dim=1).mean().item())
    return sum(psnr) / len(psnr), sum(error) / len(error)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("weights")
    ap.add_argument("triplets")
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = ap.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    net = read_network(args.weights).to(args.device).eval()
    found = measure_triplets(net, args.triplets, args.device)
    for scene, db in found:
        print(f"{scene:12} {db:.2f}")
    print(f"{'mean':12} {sum(db for _, db in found) / len(found):.2f}")


if __name__ == "__main__":
    main()
