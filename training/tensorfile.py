"""The safetensors format, as far as weights in f16 and f32 need it, so that training asks for no package beside PyTorch.

A file is the length of a header (8 bytes, little endian), the header as JSON (name: dtype, shape, first and last byte;
`__metadata__`: strings), and the numbers. Source: "Format" in the README of huggingface/safetensors.
"""
import json
import struct

import numpy as np
import torch

DTYPES = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}
NAMES = {torch.float16: "F16", torch.float32: "F32"}
# Of a header; more is no file of weights.
HEADER_MAX = 1 << 24


def save(tensors, path, metadata):
    """Writes tensors, in the order of their names, and a dictionary of strings."""
    header, chunks, at = {"__metadata__": metadata}, [], 0
    for name, tensor in sorted(tensors.items()):
        data = tensor.detach().cpu().contiguous().numpy().tobytes()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(data)]}
        chunks.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    # The numbers start at a multiple of 8.
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def load(path):
    """({name: tensor}, metadata)."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= HEADER_MAX:
            raise ValueError(f"{path}: no safetensors file, its header would have {length} bytes")
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    metadata, tensors = header.pop("__metadata__", {}), {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        if entry["dtype"] not in DTYPES or last > len(data):
            raise ValueError(f"{path}: {name} is {entry['dtype']} up to byte {last}; the file has {len(data)}, in f16 or f32")
        numbers = np.frombuffer(data[first:last], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(numbers.copy())
    return tensors, metadata
