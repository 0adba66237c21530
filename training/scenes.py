"""Draws training scenes: textured layers before a moving camera, at any instant, with the exact flow between the instants.

A scene is a background and LAYERS outlined layers before it. In coordinates from the middle of the picture, a point of a
layer that rests at x0 is at X(s) = H(s) (x0 + p(s) D(x0)) at time s: H holds the camera's roll, zoom and shift (more for
near layers) and the layer's own turn, growth, shift and tilt; D is a smooth relief; p(s) is the layer's clock, and
X(0) = x0. A frame looks x0 up for each pixel, so H is inverted in closed form and D by a few fixed-point steps.

All scenes of a batch are drawn at once, with random numbers of the device and without waiting for it: no shape depends on
data, and constants are made once.
"""
import math

import torch
import torch.nn.functional as F

LAYERS = 4
# The first layers have a relief: the background and the one before it.
RELIEFS = 2
RELIEF_CELLS = 6
RELIEF_STEPS = 3
# Speeds in pixels between the frames that a scene may have, a quarter of the picture at most and in one scene of eleven; a
# share of small ones, since most motion is small.
SPEEDS = (1.5, 3, 5, 7, 10, 14, 18, 24, 32, 44)
# Of a batch, one scene in this many has motion blur, drawn as the mean over BLUR_SAMPLES instants.
BLUR_EVERY = 12
BLUR_SAMPLES = 7
# One scene in this many has a rolling shutter: a row is seen at the frame's time plus its height in the picture
# (-0.5 to 0.5) times the readout, a share of the time between the frames.
ROLLING_EVERY = 8
READOUT = (0.1, 0.5)
# A point's row in a frame depends on when that row is read: found by repetition, each an eighth as far off as the last.
ROLLING_STEPS = 4
# One scene in this many may have block artefacts.
BLOCKS_EVERY = 4


class Scenes:
    """Draws batches of scenes with sides of `crop` pixels."""

    def __init__(self, textures, softness, masks, crop, batch, rolling_every=ROLLING_EVERY, readout=READOUT):
        self.rolling_every, self.readout = rolling_every, readout
        self.textures, self.softness, self.masks = textures, softness, masks
        self.crop, self.batch, self.device = crop, batch, textures.device
        # A row and a column: what depends on one of them alone is worked out on it alone.
        self.x = torch.arange(crop, device=self.device).float()[None] - (crop - 1) / 2
        self.y = self.x.T.contiguous()
        self.half = torch.full((), 0.5, device=self.device)
        self.flipped = torch.tensor([1.0, -1.0], device=self.device)
        self.ends = torch.arange(2.0, device=self.device).view(1, 1, 2, 1, 1)
        speeds = [min(s, crop / 4) for s in SPEEDS] + [crop / 4]
        self.speeds = torch.tensor(speeds, device=self.device)
        # Of BT.601, as JPEG has it.
        self.luma = torch.tensor([0.299, 0.587, 0.114], device=self.device).view(3, 1, 1)
        k = torch.arange(8.0)
        dct = torch.cos(math.pi / 8 * (k[None] + 0.5) * k[:, None]) * 0.5
        dct[0] *= 0.5 ** 0.5
        self.dct = dct.to(self.device)
        # Coarser steps for higher frequencies, as JPEG's tables have them.
        self.steps = ((1 + 0.45 * (k[:, None] + k[None]))).to(self.device)

    # Random numbers.

    def _rand(self, low, high, *shape):
        return torch.rand(self.batch, *shape, device=self.device) * (high - low) + low

    def _normal(self, *shape):
        return torch.randn(self.batch, *shape, device=self.device).clamp(-2.5, 2.5)

    def _chance(self, p, *shape):
        return (torch.rand(self.batch, *shape, device=self.device) < p).float()

    def _direction(self, *shape):
        a = self._rand(0, 2 * math.pi, *shape)
        return torch.stack((a.cos(), a.sin()), -1)

    def _plan(self):
        """What every scene holds: tensors with the scene first and, mostly, the layer second."""
        n, c, count = 1 + LAYERS, self.crop, self.textures.shape[0]
        near = torch.cat((torch.ones(1, device=self.device), torch.linspace(1.15, 1.8, LAYERS, device=self.device)))
        front = torch.arange(n, device=self.device) > 0
        speed = self.speeds[torch.randint(0, len(self.speeds), (self.batch,), device=self.device)]
        wild = (speed / 10).clamp(max=2)
        p = {}
        # The camera: shift, roll and zoom.
        camera = self._direction() * (speed * self._rand(0, 1) * self._chance(0.85))[:, None]
        p["roll"] = self._normal() * 0.025 * wild * self._chance(0.4)
        p["zoom"] = self._normal() * 0.025 * wild * self._chance(0.4)
        # Layers: place, size, own motion.
        small = self._chance(0.18, n) * front
        size = torch.lerp(c * torch.exp(self._rand(-1.7, 0.35, n)), self._rand(10, 40, n), small)
        fast = (small + self._chance(0.05, n) * front).clamp(max=1) * self._chance(0.6, n)
        own = self._direction(n) * (speed[:, None] * self._rand(0, 1, n) * self._chance(0.65, n) * front)[..., None]
        own = torch.lerp(own, self._direction(n) * (self._rand(0.2, 1, n) * c / 4)[..., None], fast[..., None])
        parallax = 1 + (near - 1) * self._rand(0, 1.2)[:, None]
        move = camera[:, None] * parallax[..., None] + own
        # Nothing moves further than a quarter of the picture.
        length = move.norm(dim=-1, keepdim=True)
        p["move"] = move * (c / 4 / (length + 1e-6)).clamp(max=1)
        p["spin"] = self._normal(n) * 0.09 * wild[:, None] * self._chance(0.3, n) * front
        p["grow"] = self._normal(n) * 0.04 * wild[:, None] * self._chance(0.3, n) * front
        p["tilt"] = self._normal(n, 2) * 0.03 * wild[:, None, None] * self._chance(0.5, n, 1) / c
        p["hurry"] = self._rand(-0.35, 0.35, n) * self._chance(0.2, n)
        # Across the motion.
        p["bend"] = p["move"].flip(-1) * self.flipped * (self._rand(-0.12, 0.12, n) * self._chance(0.2, n))[..., None]
        p["place"] = self._rand(-0.5, 0.5, n, 2) * c
        # A static overlay: the last layer of some scenes.
        still = self._chance(0.08)[:, None] * (torch.arange(n, device=self.device) == n - 1)
        for key in ("move", "spin", "grow", "tilt", "hurry", "bend"):
            p[key] = p[key] * (1 - still).view(self.batch, n, *[1] * (p[key].dim() - 2))
        p["free"] = 1 - still
        # Reliefs lie along the motion mostly: depth; else they are a wobble.
        amount = (p["move"][:, :RELIEFS].norm(dim=-1) * 0.35 + 0.5).clamp(max=0.035 * c) * self._chance(0.6, RELIEFS)
        along = torch.lerp(p["move"][:, :RELIEFS] / (p["move"][:, :RELIEFS].norm(dim=-1, keepdim=True) + 1e-6),
                           self._direction(RELIEFS), self._chance(0.3, RELIEFS, 1))
        depth = self._rand(-1, 1, RELIEFS, 1, RELIEF_CELLS, RELIEF_CELLS)
        p["relief"] = (amount[..., None] * along)[..., None, None] * depth
        # Looks.
        p["texture"] = torch.randint(0, count, (self.batch, n), device=self.device)
        turn, scale = self._rand(0, 2 * math.pi, n) * self._chance(0.5, n), torch.exp(self._rand(-0.35, 0.2, n))
        p["look"] = torch.stack((turn.cos() * scale, turn.sin() * scale), -1)
        p["from"] = self._rand(-0.3, 0.3, n, 2) * self.textures.shape[-1]
        p["mask"] = torch.randint(0, self.masks.shape[0], (self.batch, n), device=self.device)
        turn = self._rand(0, 2 * math.pi, n)
        p["outline"] = torch.stack((turn.cos(), turn.sin()), -1) / size[..., None] * 2
        soft = torch.lerp(self._rand(1, 1.6, n), self.softness[p["texture"]], (self.softness[p["texture"]] > 1).float())
        shadow, glass = self._chance(0.1, n) * (1 - small) * front, self._chance(0.08, n)
        soft = torch.lerp(soft, self._rand(3, 16, n), shadow)
        p["edge"] = size / 2 / soft
        opacity = torch.lerp(torch.lerp(torch.ones_like(size), self._rand(0.3, 0.7, n), glass), self._rand(0.15, 0.5, n), shadow)
        p["opacity"] = opacity * self._chance(0.62, n)
        # Reflections: what is behind shows again, faintly, and moves the other way down the picture.
        mirror = self._chance(0.06, 1)
        p["texture"][:, 1] = torch.where(mirror[:, 0] > 0, p["texture"][:, 0], p["texture"][:, 1])
        p["move"][:, 1] = torch.lerp(p["move"][:, 1], p["move"][:, 0] * self.flipped, mirror)
        p["opacity"][:, 1] = torch.lerp(p["opacity"][:, 1], self._rand(0.15, 0.45), mirror[:, 0])
        contrast = torch.exp(self._rand(-0.5, 0.15, n)) * (1 - shadow)
        p["contrast"] = contrast
        p["bright"] = torch.lerp((1 - contrast) * self._rand(0.2, 0.8, n), torch.zeros_like(size), shadow)
        return p

    # Geometry. Times are [rows, 1 or layers, instants, 1 or crop, 1 or crop]: one for a frame, its rows or its pixels.

    @staticmethod
    def _wide(v):
        """A number for each layer [rows, layers] beside times."""
        return v[..., None, None, None]

    def _clock(self, p, s):
        return s + self._wide(p["hurry"]) * (s * s - s)

    def _homography(self, p, s):
        """Nine numbers for each time and layer."""
        clock, free, wide = self._clock(p, s), self._wide(p["free"]), self._wide
        swing = 4 * s * (1 - s)
        # The layer about its place ...
        k, a = torch.exp(wide(p["grow"]) * clock), wide(p["spin"]) * clock
        c, d = k * a.cos(), k * a.sin()
        px, py = wide(p["place"][..., 0]), wide(p["place"][..., 1])
        bx = px + wide(p["move"][..., 0]) * clock + wide(p["bend"][..., 0]) * swing - (c * px - d * py)
        by = py + wide(p["move"][..., 1]) * clock + wide(p["bend"][..., 1]) * swing - (d * px + c * py)
        # ... then the camera about the middle of the picture.
        k, a = torch.exp(wide(p["zoom"][:, None]) * s * free), wide(p["roll"][:, None]) * s * free
        e, f = k * a.cos(), k * a.sin()
        gx, gy = wide(p["tilt"][..., 0]) * clock, wide(p["tilt"][..., 1]) * clock
        one = torch.ones_like(c)
        return (e * c - f * d, -(e * d + f * c), e * bx - f * by,
                f * c + e * d, e * c - f * d, f * bx + e * by, gx, gy, one)

    @staticmethod
    def _inverse(h):
        """Inverse up to a factor, which a homography does not need."""
        a, b, c, d, e, f, g, i, j = h
        return (e * j - f * i, c * i - b * j, b * f - c * e,
                f * g - d * j, a * j - c * g, c * d - a * f,
                d * i - e * g, b * g - a * i, a * e - b * d)

    @staticmethod
    def _apply(h, x, y):
        w = h[6] * x + (h[7] * y + h[8])
        return (h[0] * x + (h[1] * y + h[2])) / w, (h[3] * x + (h[4] * y + h[5])) / w

    def _relief(self, p, x, y):
        """D at rest points [rows, RELIEFS, instants, crop, crop]."""
        rows, n, t, c, _ = x.shape
        grid = torch.stack((x, y), -1).view(rows * n, t * c, c, 2).mul_(1 / (0.75 * c))
        cells = p["relief"].reshape(rows * n, 2, RELIEF_CELLS, RELIEF_CELLS)
        d = F.grid_sample(cells, grid, mode="bicubic", padding_mode="border", align_corners=True)
        return d[:, 0].reshape(x.shape), d[:, 1].reshape(x.shape)

    def _rest(self, p, s):
        """Rest points [rows, layers, instants, crop, crop] seen at each pixel, x and y."""
        x, y = self._apply(self._inverse(self._homography(p, s)), self.x, self.y)
        clock = self._clock(p, s)[:, :RELIEFS]
        ux, uy = x[:, :RELIEFS].contiguous(), y[:, :RELIEFS].contiguous()
        vx, vy = ux, uy
        for _ in range(RELIEF_STEPS):
            dx, dy = self._relief(p, vx, vy)
            vx, vy = torch.addcmul(ux, clock, dx, value=-1), torch.addcmul(uy, clock, dy, value=-1)
        return torch.cat((vx, x[:, RELIEFS:]), 1), torch.cat((vy, y[:, RELIEFS:]), 1)

    def _flow(self, p, x, y, readout):
        """Flow [rows, layers, 4, crop, crop] from rest points [rows, layers, crop, crop] seen at t to the frames 0 and 1."""
        x, y = x[:, :, None], y[:, :, None]
        dx, dy = self._relief(p, x[:, :RELIEFS].contiguous(), y[:, :RELIEFS].contiguous())

        def at(s):
            clock = self._clock(p, s)[:, :RELIEFS]
            mx = torch.cat(((x[:, :RELIEFS] + clock * dx), x[:, RELIEFS:].expand(-1, -1, clock.shape[2], -1, -1)), 1)
            my = torch.cat(((y[:, :RELIEFS] + clock * dy), y[:, RELIEFS:].expand(-1, -1, clock.shape[2], -1, -1)), 1)
            return self._apply(self._homography(p, s), mx, my)

        if readout is None:
            ex, ey = at(self.ends[:, :, 1:])
            return torch.cat((x - self.x, y - self.y, ex - self.x, ey - self.y), 2)
        ex, ey = None, self.y
        for _ in range(ROLLING_STEPS):
            ex, ey = at(self.ends + readout * ey.clamp(-self.crop, self.crop) / self.crop)
        out = torch.stack((ex - self.x, ey - self.y), 3)
        return out.reshape(*x.shape[:2], 4, *x.shape[3:])

    # Pictures.

    @staticmethod
    def _turned(x, y, turn, at):
        """Rest points turned and scaled by `turn`, then shifted by `at`: a grid for sampling."""
        rows, n, t, c, _ = x.shape
        tx, ty, ax, ay = (v[..., None, None, None] for v in (turn[..., 0], turn[..., 1], at[..., 0], at[..., 1]))
        u = torch.addcmul(torch.addcmul(ax, x, tx), y, ty, value=-1)
        v = torch.addcmul(torch.addcmul(ay, x, ty), y, tx)
        return torch.stack((u, v), -1).view(rows * n, t * c, c, 2)

    def _look_up(self, p, x, y):
        """Colours [rows, layers, 3, instants, crop, crop]; opacity [rows, layers before the ground, 1, instants, ...]."""
        rows, n, t, c, _ = x.shape
        part = lambda v: v[..., None, None, None, None]
        unit = 2 / self.textures.shape[-1]
        grid = self._turned(x, y, p["look"] * unit, p["from"] * unit)
        texture = self.textures[p["texture"].reshape(-1)].float()
        rgb = F.grid_sample(texture, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
        rgb = torch.addcmul(part(p["bright"]), rgb.view(rows, n, 3, t, c, c), part(p["contrast"] / 255))
        x, y, n = x[:, 1:], y[:, 1:], n - 1
        turn, place, edge, opacity, mask = (p[k][:, 1:] for k in ("outline", "place", "edge", "opacity", "mask"))
        ox, oy, px, py = turn[..., 0], turn[..., 1], place[..., 0], place[..., 1]
        grid = self._turned(x, y, turn, torch.stack((oy * py - ox * px, -oy * px - ox * py), -1))
        field = self.masks[mask.reshape(-1)].float()
        d = F.grid_sample(field, grid, mode="bilinear", padding_mode="border", align_corners=True).view(rows, n, 1, t, c, c)
        return rgb, torch.addcmul(self.half, d, part(edge)).clamp_(0, 1).mul_(part(opacity))

    def _render(self, p, s):
        """Frames [rows, 3, instants, crop, crop], opacities (`_look_up`) and rest points."""
        x, y = self._rest(p, s)
        rgb, alpha = self._look_up(p, x, y)
        img = rgb[:, 0]
        for layer in range(1, 1 + LAYERS):
            img = torch.lerp(img, rgb[:, layer], alpha[:, layer - 1])
        return img.clamp(0, 1), alpha, x, y

    def _rounded(self, planes, step):
        """Planes [rows, n, c, c] with the coefficients of their 8x8 blocks rounded to steps [rows, 1, 1, 1, 8, 8]."""
        rows, n, c, _ = planes.shape
        blocks = planes.reshape(rows, n, c // 8, 8, c // 8, 8).permute(0, 1, 2, 4, 3, 5)
        coefficients = self.dct @ blocks @ self.dct.T
        coded = self.dct.T @ ((coefficients / step).round() * step) @ self.dct
        return coded.permute(0, 1, 2, 4, 3, 5).reshape(planes.shape)

    def _blocks(self, img):
        """Block artefacts in some scenes: brightness in 8x8 blocks, colour at half the size, as cameras and phones code it."""
        rows, f, _, c, _ = img.shape
        step = torch.exp(torch.rand(rows, 1, 1, 1, 1, 1, device=self.device) * 2.3 - 5) * self.steps
        luma = (img * self.luma).sum(2, keepdim=True)
        # Blue and red less the brightness: green follows from the three.
        chroma = (img[:, :, ::2] - luma).view(rows, 2 * f, c, c)
        chroma = F.interpolate(self._rounded(F.avg_pool2d(chroma, 2), 1.5 * step), scale_factor=2, mode="bilinear", align_corners=False)
        luma = self._rounded(luma.view(rows, f, c, c), step).view(rows, f, 1, c, c)
        red, blue = (luma + part for part in chroma.view(rows, f, 2, c, c).split(1, 2))
        weight = self.luma.flatten()
        green = (luma - weight[0] * red - weight[2] * blue) / weight[1]
        coded = torch.cat((red, green, blue), 2)
        used = (torch.rand(rows, 1, 1, 1, 1, device=self.device) < 0.4).float()
        return torch.lerp(img, coded, used)

    @torch.no_grad()
    def draw(self):
        """pair [b, 2, 3, c, c], truth [b, 3, c, c], flow [b, 4, c, c], t [b]."""
        b, c = self.batch, self.crop
        t = torch.lerp(self._rand(0.05, 0.95), torch.full((b,), 0.5, device=self.device), self._chance(0.6))
        times = torch.stack((torch.zeros_like(t), t, torch.ones_like(t)), 1)
        p = self._plan()
        open_for = self._rand(0.05, 0.55)
        readout = self._rand(*self.readout).view(b, 1, 1, 1, 1)
        blurred, rolling = max(1, b // BLUR_EVERY), -(-b // self.rolling_every)
        # The first scenes have motion blur, and of these half a rolling shutter; the next a rolling shutter alone.
        halved = self._chance(0.5).view(b, 1, 1, 1, 1)
        parts = [(0, blurred, BLUR_SAMPLES, readout * halved), (blurred, min(b, blurred + rolling), 1, readout),
                 (min(b, blurred + rolling), b, 1, None)]
        drawn = [self._shot({k: v[first:last] for k, v in p.items()}, times[first:last], open_for[first:last], samples,
                            rolls if rolls is None else rolls[first:last])
                 for first, last, samples, rolls in parts if first < last]
        return self._camera(*(torch.cat(v) for v in zip(*drawn)), times)

    def _shot(self, p, times, open_for, samples, readout):
        """Frames [rows, 3, 3, c, c], each the mean over the time that the shutter is open, and the flow of the middle one."""
        rows, c = times.shape[0], self.crop
        spread = torch.linspace(-0.5, 0.5, samples, device=self.device) if samples > 1 else torch.zeros(1, device=self.device)
        instants = (times[:, :, None] + open_for[:, None, None] * spread).view(rows, 1, 3 * samples, 1, 1)
        if readout is not None:
            instants = instants + readout * self.y / c
        img, alpha, x, y = self._render(p, instants)
        img = img.view(rows, 3, 3, samples, c, c).mean(3).transpose(1, 2)
        middle = samples + samples // 2
        layers = self._flow(p, x[:, :, middle], y[:, :, middle], readout)
        flow = layers[:, 0]
        for layer in range(1, 1 + LAYERS):
            flow = torch.where(alpha[:, layer - 1, :, middle] > 0.5, layers[:, layer], flow)
        return img, flow

    def _camera(self, img, flow, times):
        """Light, lens and sensor; artefacts are on the frames only, never on the truth."""
        b, c = self.batch, self.crop
        part = lambda v: v.view(b, 1, 1, 1, 1)
        change = part(self._rand(-0.06, 0.06) * self._chance(0.2)) * (times - 0.5).view(b, 3, 1, 1, 1)
        radius = (self.x ** 2 + self.y ** 2) / (c * c)
        shade = 1 - part(self._rand(0, 0.6) * self._chance(0.15)) * radius
        img = (img * (1 + change) * shade).clamp(0, 1)
        pair, truth = img[:, ::2], img[:, 1]
        coded = max(1, b // BLOCKS_EVERY)
        pair = torch.cat((self._blocks(pair[-coded:]), pair[:-coded]))
        # The coded scenes were moved to the front; the rest follows them.
        order = lambda v: torch.cat((v[-coded:], v[:-coded]))
        level = part(self._rand(0, 0.012) * self._chance(0.35))
        # Shot noise grows with the root of the light; what a camera makes of its sensor's colour filters spreads it over neighbors.
        noise = torch.randn_like(pair)
        spread = F.avg_pool2d(F.pad(noise.view(b, 6, c, c), (1, 1, 1, 1), mode="reflect"), 3, 1).view(noise.shape) * 3
        noise = torch.lerp(noise, spread, part(self._rand(0, 1)))
        pair = pair + noise * level * (0.3 + pair.clamp(0, 1)).sqrt()
        # Eight bits, as files have them.
        pair = (pair.clamp(0, 1) * 255).round() / 255
        return pair.contiguous(), order(truth).contiguous(), order(flow).contiguous(), order(times[:, 1]).contiguous()
