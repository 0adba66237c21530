"""Weights as files: safetensors in f16, with what they are in the header."""
import hashlib
import os
import pathlib

import tensorfile
from ifnet import AGAIN, ORDER, SCALES, IFNet, order_of, order_text

# Names (without ending) that photos.py gives to what is in scikit-image, and what it calls frames of the clip.
SCIKIT_IMAGE = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "hubble_deep_field", "retina", "rocket", "text")
CLIP = "clip_"


def data(pictures, credits=()):
    """What the header says that weights were trained on; `pictures`: names of the files of textures, without ending; `credits`:
    whose films were learnt from."""
    others = [name for name in pictures if name not in SCIKIT_IMAGE and not name.startswith(CLIP)]
    said = ["procedural"]
    if any(name in SCIKIT_IMAGE for name in pictures):
        said.append("public-domain and CC0 pictures of scikit-image")
    if any(name.startswith(CLIP) for name in pictures):
        said.append("a clip of Intel IoT DevKit (CC BY 4.0)")
    if others:
        said.append(f"pictures of the trainer's own ({len(others)}, such as {others[0]})")
    films = "; films: " + ", ".join(credits) if credits else ""
    return "drawn scenes; textures: " + ", ".join(said) + films


def origin(path):
    """What the header of weights that were trained on from the file `path` says of it: all steps so far, and its hash."""
    header = read_header(path)
    steps = int(header.get("slomod.step", 0)) + int(header.get("slomod.steps_before", 0))
    return {"slomod.steps_before": str(steps), "slomod.init_sha256": hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()}


def write(path, state, widths, step, seed, data, begun_with=None, visits=AGAIN):
    """Writes a state dict. Refuses numbers that are not finite in f16, and then leaves the old file.

    `step`, `seed` and `data` are those of the last run; `begun_with` is the `origin` of the weights that it began with.
    """
    tensors = {k: v.detach().half().cpu().contiguous() for k, v in state.items()}
    bad = [k for k, v in tensors.items() if not v.isfinite().all()]
    if bad:
        raise ValueError(f"{path}: not written, {len(bad)} tensors are not finite, such as {bad[0]}")
    header = {"slomod.version": "4.26", "slomod.layout": "RIFE v4.26", "slomod.widths": ",".join(map(str, widths)),
              ORDER: order_text(visits), "slomod.step": str(step), "slomod.seed": str(seed), "slomod.data": data, "slomod.license": "MIT"}
    header |= begun_with or {}
    partial = f"{path}.partial"
    tensorfile.save(tensors, partial, header)
    os.replace(partial, path)


def read_state(path):
    return {k: v.float() for k, v in tensorfile.load(path)[0].items()}


def widths_of(state):
    """Channel widths of the network that a state dict is of."""
    return tuple(state[f"block{i}.conv0.1.0.weight"].shape[0] for i in range(len(SCALES)))


def read_network(path):
    """The network of a file, widths taken from its shapes and the order of its blocks from its header."""
    state = read_state(path)
    net = IFNet(widths_of(state), order_of(read_header(path)))
    net.load_state_dict(state)
    return net


def read_header(path):
    return tensorfile.load(path)[1]
