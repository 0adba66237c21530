"""The card's figures by kind of scene, and its pictures: `python card.py ../models/starter.safetensors --photos data/photos`.

Scenes are drawn as for training, from other seeds, with more of what each kind is named after. PSNR in dB over 8-bit RGB at
t = 0.5 against the true frame: weights (mean, and from the worst scene to the best), the first frame repeated, the mean of both.
The sheet shows the worst place of the worst scene of kinds that are hard.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import torch
import torch.nn.functional as F
from PIL import Image

from export import read_network
from masks import SHARES as OUTLINES, mask_bank
from measure import interpolate, psnr_db
from scenes import LAYERS, Scenes
from textures import SHARES as TEXTURES, read_photos, texture_bank

SEED = 90210
TEXTURE_COUNT, MASK_COUNT = 200, 120
# Of a cell of the sheet, in pixels, and of all kinds those that it shows.
CELL = 144
SHOWN = ("small fast objects", "repeated textures", "thin structures", "transparency", "motion of 1/8 to 1/4 of the picture",
         "rolling shutter", "reflections")


def part_of_bank(shares, count, kinds):
    """Numbers of what a bank holds of some kinds; a bank holds its kinds in order."""
    out, at = [], 0
    for kind, share in shares.items():
        n = max(1, round(share * count))
        out += range(at, at + n) if kind in kinds else ()
        at += n
    return torch.tensor(out)


def any_of(numbers, like):
    return numbers[torch.randint(0, len(numbers), like.shape)]


class Kind(Scenes):
    """Scenes with their plan changed by `change(scenes, plan)`."""

    def __init__(self, *args, change=None, **kind):
        super().__init__(*args, **kind)
        self.change = change

    def _plan(self):
        p = super()._plan()
        if self.change:
            self.change(self, p)
        return p


def small_fast(scenes, p):
    """All layers are 8 to 20 pixels large and cross a sixth to a quarter of the picture."""
    size = scenes._rand(8, 20, 1 + LAYERS)
    p["outline"] = p["outline"] / p["outline"].norm(dim=-1, keepdim=True) / size[..., None] * 2
    p["mask"] = any_of(part_of_bank(OUTLINES, MASK_COUNT, ("blob", "polygon")), p["mask"])
    p["edge"], p["opacity"] = size / 2, torch.ones_like(size)
    own = scenes._direction(LAYERS) * (scenes._rand(1 / 6, 1 / 4, LAYERS) * scenes.crop)[..., None]
    p["move"][:, 1:] = own
    p["place"][:, 1:] = p["place"][:, 1:] * 0.5 - own / 2
    p["contrast"][:, 1:] = p["contrast"][:, 1:].clamp(min=0.6)


def repeated(scenes, p):
    p["texture"] = any_of(part_of_bank(TEXTURES, TEXTURE_COUNT, ("tiles", "stripes")), p["texture"])


def thin(scenes, p):
    p["mask"] = any_of(part_of_bank(OUTLINES, MASK_COUNT, ("fence", "strokes", "bars")), p["mask"])
    p["opacity"][:, 1:] = 1


def glass(scenes, p):
    p["opacity"][:, 1:] = scenes._rand(0.3, 0.7, LAYERS)


def mirrored(scenes, p):
    """What is behind shows again in the layer before it, and moves the other way down the picture."""
    p["texture"][:, 1] = p["texture"][:, 0]
    p["move"][:, 1] = p["move"][:, 0] * scenes.flipped
    p["opacity"][:, 1] = scenes._rand(0.2, 0.45)


def far(scenes, p):
    """Everything moves by an eighth to a quarter of the picture."""
    move = p["move"] + 1e-3 * scenes._direction(1 + LAYERS)
    length = scenes._rand(1 / 8, 1 / 4) * scenes.crop
    p["move"] = move / move.norm(dim=-1, keepdim=True) * length[:, None, None]


KINDS = {
    "as in training": (None, {}),
    "small fast objects": (small_fast, {}),
    "repeated textures": (repeated, {}),
    "thin structures": (thin, {}),
    "transparency": (glass, {}),
    "motion of 1/8 to 1/4 of the picture": (far, {}),
    "rolling shutter": (None, {"rolling_every": 1, "readout": (0.3, 0.5)}),
    "reflections": (mirrored, {}),
}


def draw(banks, change, kind, crop, count, seed):
    """Triplets at t = 0.5, and the flow of the middle frame."""
    torch.manual_seed(seed)
    out = []
    while len(out) < count:
        pair, truth, flow, t = Kind(*banks, crop, 8, change=change, **kind).draw()
        out += [tuple(map(eight_bits, (pair[i, 0], truth[i], pair[i, 1]))) + (flow[i],) for i in range(8) if t[i] == 0.5]
    return out[:count]


def eight_bits(x):
    return (x.clamp(0, 1) * 255).round() / 255


def db(x, truth):
    return psnr_db((eight_bits(x) - truth).square().mean().item())


def picture(x):
    return Image.fromarray((x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def by_slomod(program, weights, scenes):
    """Figures of triplets as `slomod evaluate` has them: for each the weights', the first frame's, the mean's."""
    with tempfile.TemporaryDirectory() as folder:
        for i, (img0, truth, img1, _) in enumerate(scenes):
            place = pathlib.Path(folder) / f"{i:03}"
            place.mkdir()
            for image, name in ((img0, "frame10"), (truth, "gt"), (img1, "frame11")):
                picture(image).save(place / f"{name}.png")
        found = [json.loads(subprocess.run([program, "evaluate", folder, "--json", "--device", "cpu", "--model", file], check=True,
                                           stdout=subprocess.PIPE).stdout)["triplets"] for file in weights]
    sides = [("network", found), ("repeat", found[:1]), ("blend", found[:1])]
    columns = [[scene[side]["psnr_rgb_db"] for scene in triplets] for side, runs in sides for triplets in runs]
    return list(zip(*columns))


def worst_place(row, flow, fast):
    """(difference there, pictures [3, h, w] of a scene, the last the difference, cut where that is largest); `fast`: of what
    moves apart from most."""
    difference = row[-1].mean(0)
    if fast:
        middle = flow.flatten(1).median(1).values[:, None, None]
        apart = ((flow - middle).norm(dim=0) > flow.shape[-1] / 8).float()
        # A background that moves as well is as large as the cell.
        difference = difference * apart * (F.avg_pool2d(apart[None, None], CELL // 2 + 1, 1, CELL // 4)[0, 0] < 0.2)
    sums = F.avg_pool2d(difference[None, None], CELL, stride=8)[0, 0]
    y, x = divmod(int(sums.argmax()), sums.shape[1])
    return sums.max().item(), torch.cat([part[:, 8 * y:8 * y + CELL, 8 * x:8 * x + CELL] for part in row], 2)


@torch.no_grad()
def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("weights", nargs="+", help="files to measure; the sheet shows the first")
    ap.add_argument("--photos", help="folder of pictures (photos.py)")
    ap.add_argument("--scenes", type=int, default=8, help="of each kind")
    ap.add_argument("--crop", type=int, default=256)
    ap.add_argument("--slomod", help="program that measures; without it PyTorch does")
    ap.add_argument("--sheet", type=pathlib.Path, help="JPEG to write: first frame, truth, result, three times the difference")
    args = ap.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cpu")
    banks = (*texture_bank(read_photos(args.photos, device), TEXTURE_COUNT, 320, SEED, device),
             mask_bank(MASK_COUNT, 192, SEED + 1, device))
    nets = [read_network(file).eval() for file in args.weights]
    rows = []
    names = [pathlib.Path(file).stem for file in args.weights]
    print(f"| {args.scenes} scenes of {args.crop} px each | {' | '.join(names)} | first frame | mean |\n|---|{'---|' * (2 + len(nets))}")
    for i, (name, (change, kind)) in enumerate(KINDS.items()):
        figures, shown = [], []
        scenes = draw(banks, change, kind, args.crop, args.scenes, SEED + i)
        for img0, truth, img1, flow in scenes:
            made = [interpolate(net, img0, img1, 0.5) for net in nets]
            figures.append([db(x, truth) for x in (*made, img0, (img0 + img1) / 2)])
            shown.append(((img0, truth, made[0], 3 * (made[0] - truth).abs()), flow))
        if args.slomod:
            figures = by_slomod(args.slomod, args.weights, scenes)
        if name in SHOWN:
            fast = change is small_fast
            worst = min(range(len(scenes)), key=lambda at: -worst_place(*shown[at], fast)[0] if fast else figures[at][0])
            rows.append(worst_place(*shown[worst], fast)[1])
        means = [sum(column) / len(column) for column in zip(*figures)]
        spread = [f" ({min(column):.1f} to {max(column):.1f})" for column in list(zip(*figures))[:len(nets)]] + ["", ""]
        print(f"| {name} | " + " | ".join(f"{mean:.2f}{more}" for mean, more in zip(means, spread)) + " |", flush=True)
    if args.sheet:
        picture(torch.cat(rows, 1)).save(args.sheet, quality=80, optimize=True)


if __name__ == "__main__":
    main()
