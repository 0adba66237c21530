"""The bank of outlines: signed distance fields, so that an edge is one pixel wide at any size.

A field is [1, side, side] over -1..1 squared; positive inside; the unit is half the side. All are cut to a panel.
"""
import math

import torch
import torch.nn.functional as F

SHARES = {"blob": 0.22, "polygon": 0.16, "figure": 0.16, "bars": 0.08, "ring": 0.05, "fence": 0.09, "foliage": 0.10,
          "strokes": 0.14}
CHUNK = 32


def _u(n, low, high, device):
    return torch.rand(n, 1, 1, 1, device=device) * (high - low) + low


def _turn(n, x, y, device):
    a = _u(n, 0, 2 * math.pi, device)
    return x * a.cos() + y * a.sin(), y * a.cos() - x * a.sin()


def _segment(x, y, x0, y0, x1, y1):
    """Distance to a line segment."""
    dx, dy = x1 - x0, y1 - y0
    h = (((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy + 1e-6)).clamp(0, 1)
    return ((x - x0 - h * dx) ** 2 + (y - y0 - h * dy) ** 2 + 1e-12).sqrt()


def _blob(n, x, y, device):
    angle, radius = torch.atan2(y, x), (x * x + y * y).sqrt()
    r = _u(n, 0.4, 0.75, device)
    for k in range(1, 8):
        r = r + _u(n, -0.12, 0.12, device) / k ** 0.5 * torch.sin(k * angle + _u(n, 0, 6.3, device))
    return (r - radius) * 0.8


def _polygon(n, x, y, device):
    d = torch.full((n, 1, *x.shape), 9.0, device=device)
    for k in range(7):
        a = _u(n, 0, 6.3, device)
        side = _u(n, 0.3, 0.8, device) + (torch.rand(n, 1, 1, 1, device=device) < k * 0.1) * 9
        d = torch.minimum(d, side - x * a.cos() - y * a.sin())
    return d


def _figure(n, x, y, device):
    """A few thick limbs from one body."""
    d = torch.full((n, 1, *x.shape), -9.0, device=device)
    cx, cy = _u(n, -0.2, 0.2, device), _u(n, -0.2, 0.2, device)
    for k in range(6):
        a, l = _u(n, 0, 6.3, device), _u(n, 0.2, 0.8, device)
        width = _u(n, 0.04, 0.3 if k < 2 else 0.14, device)
        d = torch.maximum(d, width - _segment(x, y, cx, cy, cx + l * a.cos(), cy + l * a.sin()))
    return d


def _bars(n, x, y, device):
    u, v = _turn(n, x, y, device)
    one = torch.minimum(_u(n, 0.5, 0.9, device) - u.abs(), _u(n, 0.02, 0.15, device) - v.abs())
    two = torch.minimum(_u(n, 0.5, 0.9, device) - v.abs(), _u(n, 0.02, 0.15, device) - u.abs())
    return torch.where(torch.rand(n, 1, 1, 1, device=device) < 0.5, one, torch.maximum(one, two))


def _ring(n, x, y, device):
    r, q = (x * x + y * y * _u(n, 1, 2.5, device)).sqrt(), _u(n, 0.4, 0.8, device)
    return _u(n, 0.03, 0.15, device) - (r - q).abs()


def _fence(n, x, y, device):
    u, v = _turn(n, x, y, device)
    def rails(w):
        period = _u(n, 0.12, 0.5, device)
        return period * _u(n, 0.06, 0.3, device) - ((w / period + _u(n, 0, 1, device)) % 1 - 0.5).abs() * period
    second = torch.where(torch.rand(n, 1, 1, 1, device=device) < 0.5, torch.full_like(u, -9.0), rails(v))
    return torch.maximum(rails(u), second)


def _foliage(n, x, y, device):
    """Level sets of noise, over their slope."""
    side = x.shape[-1]
    f = torch.zeros(n, 1, side, side, device=device)
    for cells, weight in ((5, 1.0), (11, 0.7), (23, 0.5), (47, 0.3)):
        coarse = torch.rand(n, 1, cells, cells, device=device) - 0.5
        f = f + weight * F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    gx = (F.pad(f, (1, 1, 0, 0), mode="replicate")[..., 2:] - F.pad(f, (1, 1, 0, 0), mode="replicate")[..., :-2]) * side / 4
    gy = (F.pad(f, (0, 0, 1, 1), mode="replicate")[..., 2:, :] - F.pad(f, (0, 0, 1, 1), mode="replicate")[..., :-2, :]) * side / 4
    return (f - _u(n, -0.1, 0.25, device)) / (gx * gx + gy * gy + 0.3).sqrt()


def _strokes(n, x, y, device):
    """Curved thin strokes: hair, grass, wires."""
    d = torch.full((n, 1, *x.shape), -9.0, device=device)
    bend, width = _u(n, 0, 1.2, device), torch.exp(_u(n, -4.6, -3, device))
    trend = _u(n, 0, 6.3, device)
    for _ in range(14):
        px, py = _u(n, -0.9, 0.9, device), _u(n, -0.9, 0.9, device)
        a, turn = trend + _u(n, -0.6, 0.6, device), _u(n, -1, 1, device) * bend / 3
        step = _u(n, 0.1, 0.35, device)
        for _ in range(4):
            qx, qy = px + step * a.cos(), py + step * a.sin()
            d = torch.maximum(d, width - _segment(x, y, px, py, qx, qy))
            px, py, a = qx, qy, a + turn
    return d


KINDS = {"blob": _blob, "polygon": _polygon, "figure": _figure, "bars": _bars, "ring": _ring, "fence": _fence,
         "foliage": _foliage, "strokes": _strokes}


def mask_bank(count, side, seed, device):
    """[count, 1, side, side] f16."""
    torch.manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, side, device=device), torch.linspace(-1, 1, side, device=device), indexing="ij")
    panel = 0.97 - torch.maximum(x.abs(), y.abs())
    bank = []
    for kind, share in SHARES.items():
        left = max(1, round(share * count))
        while left > 0:
            n = min(left, CHUNK)
            left -= n
            bank.append(torch.minimum(KINDS[kind](n, x, y, device), panel).clamp(-1, 1).half())
    return torch.cat(bank)
