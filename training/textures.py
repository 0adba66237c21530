"""The bank of textures that scenes are made of: photographs, noise with natural spectra, overlapping leaves, tiles, text."""
import math
import pathlib
import random
import string

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

# How often a picture is taken, by the start of its name; 1 for the others.
OFTEN = {"astronaut": 3, "coffee": 3, "chelsea": 3, "rocket": 2, "camera": 2, "hubble": 0.5, "retina": 0.5, "clip": 0.7}
# Shares of the bank.
SHARES = {"photo": 0.42, "leaves": 0.30, "noise": 0.10, "tiles": 0.07, "stripes": 0.03, "text": 0.08}
# Share of every kind that is out of focus.
BLURRED = 0.12
CHUNK = 32


def picture_files(folder):
    """The pictures of a folder, by name; none where there is no folder."""
    return sorted(pathlib.Path(folder).glob("*.png")) if folder else []


def read_photos(folder, device):
    """[(weight, [3, h, w] f32)] of all pictures in a folder."""
    photos = []
    for path in picture_files(folder):
        array = np.asarray(Image.open(path).convert("RGB")).copy()
        weight = next((w for start, w in OFTEN.items() if path.name.startswith(start)), 1)
        photos.append((weight, torch.from_numpy(array).to(device).permute(2, 0, 1).float() / 255))
    return photos


def _uniform(n, low, high, device):
    return torch.rand(n, 1, 1, 1, device=device) * (high - low) + low


def _colour(n, device):
    """Random colours, mostly pale."""
    grey = torch.rand(n, 1, 1, 1, device=device)
    return torch.lerp(grey.expand(n, 3, 1, 1), torch.rand(n, 3, 1, 1, device=device), _uniform(n, 0, 0.8, device))


def noise(n, side, device):
    """1/f^a noise, coloured in part."""
    f = (torch.fft.fftfreq(side, device=device)[:, None] ** 2 + torch.fft.rfftfreq(side, device=device)[None] ** 2).sqrt()
    f[0, 0] = f[0, 1]
    spectrum = torch.fft.rfft2(torch.randn(n, 3, side, side, device=device)) * f ** -_uniform(n, 0.6, 1.8, device)
    out = torch.fft.irfft2(spectrum, s=(side, side))
    grey = out.mean(1, keepdim=True) * 1.7
    out = torch.lerp(grey.expand_as(out), out, _uniform(n, 0, 1, device))
    out = (out - out.mean((2, 3), keepdim=True)) / (out.std((1, 2, 3), keepdim=True) + 1e-6)
    return _colour(n, device) * 0.7 + 0.15 + out * _uniform(n, 0.05, 0.25, device)


def photo_crops(photos, n, side, gen):
    """Crops of the photographs, shrunk or enlarged a little, mirrored, some with colours exchanged."""
    out = []
    for _ in range(n):
        for _ in range(4):  # Four tries at a crop that is not flat.
            _, photo = gen.choices(photos, [w for w, _ in photos])[0]
            h, w = photo.shape[1:]
            crop = min(h, w, int(side * math.exp(gen.uniform(math.log(0.6), math.log(1.7)))))
            y, x = gen.randint(0, h - crop), gen.randint(0, w - crop)
            if photo[:, y:y + crop, x:x + crop].std() > 0.08:
                break
        t = F.interpolate(photo[None, :, y:y + crop, x:x + crop], size=(side, side), mode="bicubic", align_corners=False,
                          antialias=True)[0]
        if gen.random() < 0.5:
            t = t.flip(2)
        if gen.random() < 0.3:
            t = t.flip(1)
        if gen.random() < 0.4:
            t = t[gen.sample(range(3), 3)]
        t = t.clamp(0, 1) ** math.exp(gen.uniform(-0.4, 0.4))
        out.append(t * gen.uniform(0.7, 1.1) + gen.uniform(-0.1, 0.1))
    return torch.stack(out)


def leaves(n, side, device, fill, count=160):
    """Overlapping shapes with sizes after a power law, as in natural pictures; each has a colour and some of `fill`."""
    y, x = torch.meshgrid(torch.arange(side, device=device).float(), torch.arange(side, device=device).float(), indexing="ij")
    img = fill.flip(0)
    small = _uniform(n, 2, 14, device)
    for i in range(count):
        large = side * (0.5 if i < 20 else 0.2)
        u = torch.rand(n, 1, 1, 1, device=device)
        r = (u / small ** 2 + (1 - u) / large ** 2) ** -0.5 if i >= 20 else _uniform(n, side / 10, large, device)
        a = _uniform(n, 0, math.pi, device)
        cx, cy = _uniform(n, 0, side, device), _uniform(n, 0, side, device)
        p = (x - cx) * a.cos() + (y - cy) * a.sin()
        q = ((y - cy) * a.cos() - (x - cx) * a.sin()) * torch.exp(_uniform(n, -0.2, 1.5, device))
        square, round_ = torch.maximum(p.abs(), q.abs()), (p * p + q * q).sqrt()
        d = torch.where(torch.rand(n, 1, 1, 1, device=device) < 0.5, square, round_)
        m = (r - d + 0.5).clamp(0, 1)
        colour = _colour(n, device)
        share = (_uniform(n, -0.3, 1.3, device)).clamp(0, 1)
        moved = fill.roll((random.randrange(side), random.randrange(side)), (2, 3))
        img = torch.lerp(img, torch.lerp(colour.expand_as(img), moved, share), m)
    return img


def tiles(source, gen):
    """Small patches repeated: what confuses a matcher."""
    out = []
    side = source.shape[-1]
    at = torch.arange(side, device=source.device)
    for t in source:
        ph, pw = gen.choice((8, 12, 16, 20, 28, 40)), gen.choice((8, 12, 16, 20, 28, 40))
        y, x = gen.randint(0, side - ph), gen.randint(0, side - pw)
        rows = y + at % ph
        columns = (x + (at[None] + (at[:, None] // ph % 2) * gen.choice((0, pw // 2))) % pw)
        t2 = t[:, rows[:, None], columns]
        out.append(t2 * gen.uniform(0.7, 1) + (t - 0.5) * gen.uniform(0, 0.3))
    return torch.stack(out)


def stripes(n, side, device):
    y, x = torch.meshgrid(torch.arange(side, device=device).float(), torch.arange(side, device=device).float(), indexing="ij")
    a, f = _uniform(n, 0, math.pi, device), 2 * math.pi / torch.exp(_uniform(n, 1.5, 4, device))
    s = torch.sin(f * (x * a.cos() + y * a.sin()))
    s = s * torch.where(torch.rand(n, 1, 1, 1, device=device) < 0.4, torch.sin(f * (y * a.cos() - x * a.sin())), 1.0)
    s = (s * torch.exp(_uniform(n, 0, 2, device))).clamp(-1, 1) * 0.5 + 0.5
    return torch.lerp(_colour(n, device).expand(n, 3, side, side), noise(n, side, device), s)


def _font(size):
    try:
        return ImageFont.load_default(size)
    except (TypeError, OSError):
        return ImageFont.load_default()


def text(n, side, device, gen, background):
    """Lines of letters over a plain colour or over `background`."""
    fonts = [_font(s) for s in (8, 10, 13, 18, 28, 48)]
    out = []
    for i in range(n):
        ink = Image.new("L", (side, side), 0)
        draw = ImageDraw.Draw(ink)
        y = gen.randint(-8, 8)
        font = gen.choice(fonts)
        step = max(9, int((draw.textbbox((0, 0), "Ag", font=font)[3]) * gen.uniform(1, 1.6)))
        while y < side:
            line = "".join(gen.choice(string.ascii_letters + string.digits + "   ") for _ in range(side // 4))
            draw.text((gen.randint(-20, 10), y), line, fill=255, font=font)
            y += step
        m = torch.from_numpy(np.asarray(ink).copy()).to(device).float()[None] / 255
        paper = torch.tensor([gen.random() for _ in range(3)], device=device)[:, None, None]
        paper = torch.lerp(paper.expand(3, side, side), background[i], gen.choice((0.1, 0.3, 1)))
        ink_colour = torch.tensor([gen.random() for _ in range(3)], device=device)[:, None, None]
        out.append(torch.lerp(paper, ink_colour.expand_as(paper), m))
    return torch.stack(out)


def blur(img, sigma):
    """Gaussian blur, one sigma for all."""
    radius = int(3 * sigma + 0.5)
    k = torch.exp(-torch.arange(-radius, radius + 1, device=img.device).float() ** 2 / (2 * sigma ** 2))
    k = (k / k.sum()).expand(img.shape[1], 1, -1)
    img = F.pad(img, (radius,) * 4, mode="reflect")
    img = F.conv2d(img, k[:, :, None, :], groups=img.shape[1])
    return F.conv2d(img, k[:, :, :, None], groups=img.shape[1])


def texture_bank(photos, count, side, seed, device):
    """[count, 3, side, side] uint8 and how soft each is in pixels [count] (1: sharp)."""
    gen = random.Random(seed)
    random.seed(seed)
    torch.manual_seed(seed)
    some = lambda n: photo_crops(photos, n, side, gen) if photos else noise(n, side, device)
    bank, soft = [], []
    for kind, share in SHARES.items():
        left = max(1, round(share * count))
        while left > 0:
            n = min(left, CHUNK)
            left -= n
            if kind == "photo":
                t = some(n)
            elif kind == "leaves":
                fill = some(n) if gen.random() < 0.7 else noise(n, side, device)
                t = leaves(n, side, device, fill, gen.choice((60, 160, 300)) if n == CHUNK else 40)
            elif kind == "noise":
                t = noise(n, side, device)
            elif kind == "tiles":
                t = tiles(some(n), gen)
            elif kind == "stripes":
                t = stripes(n, side, device)
            else:
                t = text(n, side, device, gen, some(n))
            s = torch.ones(n, device=device)
            k = round(n * BLURRED)
            if k:
                sigma = gen.uniform(1.2, 4)
                t[:k] = blur(t[:k], sigma)
                s[:k] = 2.5 * sigma
            bank.append((t.clamp(0, 1) * 255 + 0.5).to(torch.uint8))
            soft.append(s)
    return torch.cat(bank), torch.cat(soft)
