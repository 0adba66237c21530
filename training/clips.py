"""Collects shots of films whose frames may be used: `python clips.py --out data/clips FILE ...`, and hands out crops of them.

A film is known by its hash: nothing gets in whose licence does not stand in FILMS. Needs FFmpeg's program.
"""
import argparse
import hashlib
import pathlib
import subprocess

import numpy as np
import torch
import torch.nn.functional as F

# SHA-256 of the file: name, width and height to keep, rows of these without picture above and below, credit.
FILMS = {
    "ce0d2ba68822a89ae65ee41b53be9de621771130c2aa1d0ff02d935df75b59ae":
        ("bunny-trailer", 640, 360, 0, "Big Buck Bunny, Blender Foundation (CC BY 3.0)"),
    "82a01dc92886e1668720fc0331c0f83862f2cdd5c8e3ecacf7c97f3bafff7fc9":
        ("bunny-begin", 640, 360, 0, "Big Buck Bunny, Blender Foundation (CC BY 3.0)"),
    "cb0fe73fc0a7d543459996c0cdab730997e6eac1013d3ede18796f777cb7f273":
        ("sintel-trailer", 640, 360, 46, "Sintel, Blender Foundation (CC BY 3.0)"),
    "82614d2ec258021394adc45623284ecde4a71d7dbddd2071bf2aa897dd5b8f0e":
        ("tears-of-steel", 640, 266, 0, "Tears of Steel, Blender Foundation (CC BY 3.0)"),
    "fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279":
        ("city", 480, 270, 0, "cityCC0.mpg of Kivy (CC0)"),
}
# One shot of so many is measured on and not trained on.
HELD_OUT_EVERY = 8
# A shot ends where thumbnails differ by more than the first number (mean, of 255) and by so many times more than at the
# frames beside.
CUT, CUT_RATIO = 8, 2.5
SHORTEST_SHOT = 8
# Pixels from one place for a crop to the next.
CELL = 16
# Mean difference (of 255) of the true frame from the mean of the outer ones in a crop: what is below the first counts nothing,
# what is above the second no more than there.
STILL, BUSY = 0.5, 6.0
# Triplets of every second frame serve as well where that is less than this.
SLOW = 2.0
# Both halves of a triplet must move, and light must not change by more than this.
UNEVEN, FADE = 3.0, 3.0


def frames(path, width, height, rows):
    """All frames of a film, [n, height - 2 rows, width, 3] of 8 bits, each pixel the mean of what it covers."""
    raw = subprocess.run(["ffmpeg", "-loglevel", "error", "-i", str(path), "-vf", f"scale={width}:{height}:flags=area", "-f", "rawvideo",
                          "-pix_fmt", "rgb24", "-"], check=True, stdout=subprocess.PIPE).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)[:, rows:height - rows]


def shots(film):
    """[(first, end)] between the cuts."""
    change = np.abs(np.diff(film[:, ::8, ::8].astype(np.int16), axis=0)).mean((1, 2, 3))
    beside = np.maximum(np.append(0, change[:-1]), np.append(change[1:], 0))
    cuts = [0, *(np.nonzero((change > CUT) & (change > CUT_RATIO * beside))[0] + 1).tolist(), len(film)]
    return [(a, b) for a, b in zip(cuts, cuts[1:]) if b - a >= SHORTEST_SHOT]


def credits(names):
    """Whose films the shots of these files are; of others, that they are the trainer's own."""
    known = {name: credit for name, _, _, _, credit in FILMS.values()}
    return sorted({known.get(file.rpartition("-")[0], "shots of the trainer's own") for file in names})


class Clips:
    """Batches of crops from triplets of a folder's shots, as `Scenes.draw` gives them: [b, 2, 3, crop, crop], the true frame in
    the middle, t = 0.5, and a flow that nobody knows, which is NaN."""

    def __init__(self, folder, crop, batch, device):
        self.crop, self.batch, self.device = crop, batch, device
        self.shots, places, shares = [], [], []
        for path in sorted(pathlib.Path(folder).glob("*.npy")):
            shot = torch.from_numpy(np.load(path))
            if min(shot.shape[1:3]) < crop:
                continue
            for step in (1, 2):
                self._add(shot, len(self.shots), step, places, shares)
            self.shots.append(shot.to(device))
        if not places:
            raise SystemExit(f"{folder}: no shot is larger than {crop} px; clips.py makes them")
        self.places, self.shares = torch.cat(places), torch.cat(shares)

    def _add(self, shot, number, step, places, shares):
        """Rows of shot, first frame, step, row and column, and how often each is to be taken."""
        n = len(shot) - 2 * step
        if n < 1:
            return
        small = F.avg_pool2d(shot.permute(0, 3, 1, 2)[:, :, ::2, ::2].float(), CELL // 2)
        first, middle, last = small[:n], small[step:n + step], small[2 * step:]
        del small
        halves = torch.stack([(a - b).abs().mean((1, 2, 3)) for a, b in ((first, middle), (middle, last))])
        even = (halves.amax(0) < UNEVEN * halves.amin(0) + 0.1) & ((first - last).mean((1, 2, 3)).abs() < FADE)
        # A quarter of the pixels tells as much.
        few = shot[:, ::2, ::2]
        wrong = [((few[i].float() + few[i + 2 * step].float()) / 2 - few[i + step].float()).abs().mean(2) for i in range(n)]
        wrong = F.avg_pool2d(torch.stack(wrong)[:, None], self.crop // 2, CELL // 2)[:, 0]
        share = (wrong - STILL).clamp(0, BUSY - STILL) * even.view(-1, 1, 1)
        if step > 1:
            share = share * (wrong < SLOW)
        at = share.nonzero()
        found = share[tuple(at.T)]
        rows = torch.cat([torch.full((len(at), 1), number), at[:, :1], torch.full((len(at), 1), step), at[:, 1:] * CELL], 1)
        places.append(rows)
        # So that a long shot does not crowd out all others.
        shares.append(found / found.sum().clamp(min=1e-6).sqrt())

    def draw(self):
        rows = self.places[torch.multinomial(self.shares, self.batch, replacement=True)].tolist()
        triplets = []
        for shot, first, step, y, x in rows:
            of = self.shots[shot]
            y = min(y + int(torch.randint(CELL, ())), of.shape[1] - self.crop)
            x = min(x + int(torch.randint(CELL, ())), of.shape[2] - self.crop)
            part = of[first:first + 2 * step + 1:step, y:y + self.crop, x:x + self.crop]
            triplets.append(part[..., torch.randperm(3, device=self.device)])
        triplets = torch.stack(triplets).permute(0, 1, 4, 2, 3).float() / 255
        pair, truth = triplets[:, ::2].contiguous(), triplets[:, 1].contiguous()
        flow = torch.full((self.batch, 4, self.crop, self.crop), float("nan"), device=self.device)
        return pair, truth, flow, torch.full((self.batch,), 0.5, device=self.device)


class Mixed:
    """Batches of drawn scenes and of clips, in this order."""

    def __init__(self, scenes, clips):
        self.parts, self.device = (scenes, clips), scenes.device

    def draw(self):
        return [torch.cat(both) for both in zip(*(part.draw() for part in self.parts))]


def main(given=None):
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("files", nargs="+", type=pathlib.Path, help="films; README.md says where they are from")
    ap.add_argument("--out", type=pathlib.Path, default=pathlib.Path("data/clips"))
    args = ap.parse_args(given)
    (args.out / "held-out").mkdir(parents=True, exist_ok=True)
    count = 0
    for path in args.files:
        found = FILMS.get(hashlib.sha256(path.read_bytes()).hexdigest())
        if not found:
            raise SystemExit(f"{path}: not one of the films in clips.py; add its hash and its licence there if it may be used")
        name, width, height, rows, _ = found
        film = frames(path, width, height, rows)
        for first, end in shots(film):
            count += 1
            folder = args.out if count % HELD_OUT_EVERY else args.out / "held-out"
            np.save(folder / f"{name}-{first:05}.npy", film[first:end])
    print(f"{count} shots in {args.out}, one of {HELD_OUT_EVERY} of them in held-out")


if __name__ == "__main__":
    main()
