"""Collects the pictures that become textures: `python photos.py --clip car-detection.mp4 --out data/photos`.

All are free to use: pictures that come inside the scikit-image package (public domain or CC0) and frames of a CC BY 4.0
clip of Intel IoT DevKit (see README.md). Pictures of any test set are not among them.
"""
import argparse
import pathlib
import subprocess

import skimage
from PIL import Image

from export import CLIP, SCIKIT_IMAGE

# Public domain: astronaut and hubble_deep_field (NASA), rocket (SpaceX), text. CC0: the others.
JPEG = ("hubble_deep_field", "retina", "rocket")
# Seconds of the clip at which cars are seen; most of it is bare asphalt.
CLIP_AT_S = (7.5, 16, 25)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--clip", type=pathlib.Path, help="car-detection.mp4 of Intel IoT DevKit's sample-videos")
    ap.add_argument("--out", type=pathlib.Path, default=pathlib.Path("data/photos"))
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(skimage.__file__).parent / "data"
    for name in SCIKIT_IMAGE:
        image = Image.open(folder / f"{name}.{'jpg' if name in JPEG else 'png'}").convert("RGB")
        if max(image.size) > 800:
            image.thumbnail((800, 800), Image.Resampling.LANCZOS)
        image.save(args.out / f"{name}.png", optimize=True)
    for at in CLIP_AT_S if args.clip else ():
        out = args.out / f"{CLIP}{at:04.1f}s.png"
        subprocess.run(["ffmpeg", "-loglevel", "error", "-y", "-ss", str(at), "-i", str(args.clip), "-frames:v", "1",
                        str(out)], check=True)
    print(f"{len(list(args.out.glob('*.png')))} pictures in {args.out}")


if __name__ == "__main__":
    main()
