"""The same networks in PyTorch f32, op by op: `python pytorch.py WIDTHS THREADS WIDTH HEIGHT`.

Five widths are the v4.26 layout, four v4.6. Says `ready`, then runs one pair for each line read and prints the seconds
and processor seconds that it took, in the memory format that was faster when warming up. Weights and pictures are random.
"""
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


def warp(image, flow):
    b, _, h, w = image.shape
    like = dict(device=image.device, dtype=image.dtype)
    y, x = torch.meshgrid(torch.linspace(-1, 1, h, **like), torch.linspace(-1, 1, w, **like), indexing="ij")
    grid = torch.stack((x + flow[:, 0] * (2 / (w - 1)), y + flow[:, 1] * (2 / (h - 1))), -1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


def resize(x, factor):
    return x if factor == 1 else F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class Head(nn.Sequential):
    def __init__(self, c=16, out=4):
        super().__init__(nn.Conv2d(3, c, 3, 2, 1), nn.LeakyReLU(0.2, True), nn.Conv2d(c, c, 3, 1, 1),
                         nn.LeakyReLU(0.2, True), nn.Conv2d(c, c, 3, 1, 1), nn.LeakyReLU(0.2, True),
                         nn.ConvTranspose2d(c, out, 4, 2, 1))


class ResConv(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 1, 1)
        self.beta = nn.Parameter(torch.ones(1, c, 1, 1))

    def forward(self, x):
        return F.leaky_relu(self.conv(x) * self.beta + x, 0.2, True)


class Block(nn.Module):
    def __init__(self, inputs, c, outputs):
        super().__init__()
        self.conv0 = nn.Sequential(nn.Conv2d(inputs, c // 2, 3, 2, 1), nn.LeakyReLU(0.2, True),
                                   nn.Conv2d(c // 2, c, 3, 2, 1), nn.LeakyReLU(0.2, True))
        self.convblock = nn.Sequential(*[ResConv(c) for _ in range(8)])
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(c, 4 * outputs, 4, 2, 1), nn.PixelShuffle(2))

    def forward(self, x, flow, factor):
        x = resize(x, 1 / factor)
        if flow is not None:
            x = torch.cat((x, resize(flow, 1 / factor) / factor), 1)
        out = resize(self.lastconv(self.convblock(self.conv0(x))), factor)
        return out[:, :4] * factor, out[:, 4:5], out[:, 5:]


class IFNet(nn.Module):
    """`head`: channels inside the feature network and features it makes; none up to v4.6."""

    def __init__(self, widths, head=None):
        super().__init__()
        self.newer = head is not None
        self.factors = [2 ** i for i in reversed(range(len(widths)))]
        features = 2 * head[1] if self.newer else 0
        # v4.6 makes a sixth channel that nothing reads.
        outputs, handed_on = (13, 8) if self.newer else (6, 0)
        first, later = 7 + features, 7 + features + 5 + handed_on
        self.blocks = nn.ModuleList(Block(later if i else first, c, outputs) for i, c in enumerate(widths))
        self.encode = Head(*head) if self.newer else None

    def forward(self, img0, img1, timestep):
        t = timestep.view(1, 1, 1, 1).expand(1, 1, *img0.shape[2:])
        features = (self.encode(img0), self.encode(img1)) if self.newer else ()
        flow = mask = handed_on = None
        warped0, warped1 = img0, img1
        for block, factor in zip(self.blocks, self.factors):
            if flow is None:
                flow, mask, handed_on = block(torch.cat((img0, img1, *features, t), 1), None, factor)
            else:
                moved = [warp(f, flow[:, 2 * i:2 * i + 2]) for i, f in enumerate(features)]
                parts = [warped0, warped1, *moved, t, mask]
                x = torch.cat(parts + [handed_on] if self.newer else parts, 1)
                delta, logit, handed_on = block(x, flow, factor)
                flow = flow + delta
                mask = logit if self.newer else mask + logit
            warped0, warped1 = warp(img0, flow[:, :2]), warp(img1, flow[:, 2:])
        m = torch.sigmoid(mask)
        return (warped0 * m + warped1 * (1 - m)).clamp(0, 1)


def main():
    widths = [int(text) for text in sys.argv[1].split(",")]
    threads, width, height = map(int, sys.argv[2:5])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    multiple = 64 if len(widths) == 5 else 32
    padded = [-(-side // multiple) * multiple for side in (height, width)]
    base = F.interpolate(torch.rand(1, 3, 24, 40), size=padded, mode="bicubic").clamp(0, 1)
    pictures = (base, torch.roll(base, (1, 3), (2, 3)))
    timestep = torch.tensor([0.5])

    def seconds(form):
        net = IFNet(widths, (16, 4) if len(widths) == 5 else None).eval().to(memory_format=form)
        images = [picture.to(memory_format=form) for picture in pictures]

        def run():
            start, work = time.perf_counter(), time.process_time()
            with torch.inference_mode():
                net(*images, timestep)
            return time.perf_counter() - start, time.process_time() - work

        run()
        return run(), run

    # The better by processor time, which other work on the machine disturbs least.
    tried = [seconds(form) for form in (torch.contiguous_format, torch.channels_last)]
    _, run = min(tried, key=lambda pair: pair[0][1])
    print("ready", flush=True)
    for _ in sys.stdin:
        print(*run(), flush=True)


if __name__ == "__main__":
    main()
