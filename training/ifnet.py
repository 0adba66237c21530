"""IFNet in the state-dict layout of RIFE v4.26, at any channel widths, written for training.

Both frames travel in one tensor `pair` [b, 2, 3, h, w], and flow [b, 4, h, w] holds t→0 in channels 0, 1 and t→1 in 2, 3
(x before y), so that one warp serves both. Layout: `IFNet_HDv3` of hzwer/Practical-RIFE, v4.26.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

SCALES = (16, 8, 4, 2, 1)
STARTER = (96, 64, 48, 32, 16)
STANDARD = (192, 128, 96, 64, 32)
SLOPE = 0.2
FEATURES = 4
HANDED_ON = 8
# Of pictures in 0..1, roughly.
PICTURE_MEAN, PICTURE_DEVIATION = 0.45, 0.25

_grids = {}
_enlargers = {}


def _grid(h, w, device):
    """Pixel grid [1, h, w, 2] in -1..1 (corners aligned) and grid units per pixel [2]; made once for each size."""
    key = (h, w, str(device))
    if key not in _grids:
        y, x = torch.meshgrid(torch.linspace(-1, 1, h, device=device), torch.linspace(-1, 1, w, device=device), indexing="ij")
        unit = torch.full((2,), 2 / (w - 1), device=device)
        unit[1] = 2 / (h - 1)
        _grids[key] = (torch.stack((x, y), -1)[None], unit)
    return _grids[key]


def warp(img, flow):
    """out(x) = img(x + flow(x)): bilinear, borders repeated. img [n, c, h, w], flow [n, 2, h, w], both f32."""
    base, unit = _grid(img.shape[2], img.shape[3], img.device)
    grid = base + flow.permute(0, 2, 3, 1) * unit
    return F.grid_sample(img, grid, mode="bilinear", padding_mode="border", align_corners=True)


def warp_pair(pair, flow):
    """Both frames to time t: pair [b, 2, c, h, w], flow [b, 4, h, w]; returns [b, 2 c, h, w]."""
    b, _, c, h, w = pair.shape
    return warp(pair.reshape(2 * b, c, h, w), flow.reshape(2 * b, 2, h, w)).reshape(b, 2 * c, h, w)


def shrink(x, scale):
    """Bilinear, 1/scale of the size. What is the same everywhere ([b, c, 1, 1]) stays as it is."""
    if scale == 1 or x.shape[2] == 1:
        return x
    return F.interpolate(x, scale_factor=1 / scale, mode="bilinear", align_corners=False)


def _weights(n, scale, device):
    """Matrix [n scale, n] of bilinear enlargement by `scale`; made once for each size."""
    key = (n, scale, str(device))
    if key not in _enlargers:
        at = ((torch.arange(n * scale, device=device).float() + 0.5) / scale - 0.5).clamp(0, n - 1)
        _enlargers[key] = (1 - (at[:, None] - torch.arange(n, device=device)).abs()).clamp(min=0)
    return _enlargers[key]


def enlarge(x, scale):
    """Bilinear, `scale` times the size; equals `interpolate`, whose backward adds up many numbers in few places."""
    if scale == 1:
        return x
    with torch.autocast(x.device.type, enabled=False):
        rows, columns = _weights(x.shape[2], scale, x.device), _weights(x.shape[3], scale, x.device)
        return rows @ (x @ columns.T)


class Head(nn.Module):
    def __init__(self, c=16, out=FEATURES):
        super().__init__()
        self.cnn0 = nn.Conv2d(3, c, 3, 2, 1)
        self.cnn1 = nn.Conv2d(c, c, 3, 1, 1)
        self.cnn2 = nn.Conv2d(c, c, 3, 1, 1)
        self.cnn3 = nn.ConvTranspose2d(c, out, 4, 2, 1)

    def forward(self, x):
        for conv in (self.cnn0, self.cnn1, self.cnn2):
            x = F.leaky_relu(conv(x), SLOPE)
        return self.cnn3(x)


class ResConv(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 1, 1)
        self.beta = nn.Parameter(torch.ones(1, c, 1, 1))

    def forward(self, x):
        return F.leaky_relu(torch.addcmul(x, self.conv(x), self.beta.to(x.dtype)), SLOPE)


class IFBlock(nn.Module):
    def __init__(self, inputs, c):
        super().__init__()
        down = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.LeakyReLU(SLOPE))
        self.conv0 = nn.Sequential(down(inputs, c // 2), down(c // 2, c))
        self.convblock = nn.Sequential(*[ResConv(c) for _ in range(8)])
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(c, 4 * (5 + HANDED_ON), 4, 2, 1), nn.PixelShuffle(2))

    def forward(self, parts, flow, scale):
        """parts: images that are shrunk by `scale` and joined; returns flow added, mask logits, features, full size."""
        parts = [shrink(part, scale) for part in parts]
        if flow is not None:
            parts.append(shrink(flow, scale) / scale)
        size = parts[0].shape[2:]
        parts = [part.expand(-1, -1, *size) for part in parts]
        out = self.lastconv(self.convblock(self.conv0(torch.cat(parts, 1))))
        # Flows, masks and resizing stay in f32 under autocast.
        out = enlarge(out.to(torch.float32, memory_format=torch.contiguous_format), scale)
        flow, mask, handed = out.split((4, 1, HANDED_ON), 1)
        return flow * scale, mask, handed


class IFNet(nn.Module):
    def __init__(self, widths=STARTER):
        super().__init__()
        frames = 2 * (3 + FEATURES) + 1
        self.block0 = IFBlock(frames, widths[0])
        for i, c in enumerate(widths[1:], 1):
            setattr(self, f"block{i}", IFBlock(frames + 1 + HANDED_ON + 4, c))
        self.encode = Head()
        self.widths = tuple(widths)

    @torch.no_grad()
    def initialize(self):
        """Random numbers to start from; small last layers make the first guess `no motion`.

        The layers that read pictures start as if these had mean 0 and variance 1: small differences then decide on which
        side of its bend an activation is, and the network learns to match much sooner.
        """
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(m.weight, a=SLOPE)
                nn.init.zeros_(m.bias)
            if isinstance(m, ResConv):
                m.conv.weight *= 0.5
        blocks = [getattr(self, f"block{i}") for i in range(len(SCALES))]
        for conv, channels in [(self.encode.cnn0, 3)] + [(block.conv0[0][0], 6) for block in blocks]:
            conv.weight[:, :channels] /= PICTURE_DEVIATION
            conv.bias -= conv.weight[:, :channels].sum((1, 2, 3)) * PICTURE_MEAN
        for block in blocks:
            block.lastconv[0].weight *= 0.03

    def forward(self, pair, t):
        """pair [b, 2, 3, h, w] in 0..1, sides multiples of 64; t [b]. Returns (merged, flow, mask) for each block."""
        b, _, _, h, w = pair.shape
        images = pair.reshape(b, 6, h, w)
        feats = self.encode(pair.reshape(2 * b, 3, h, w))
        feats = feats.to(torch.float32, memory_format=torch.contiguous_format).reshape(b, 2, FEATURES, h, w)
        time = t.view(b, 1, 1, 1)
        flow = mask = handed = warped = None
        out = []
        for i, scale in enumerate(SCALES):
            block = getattr(self, f"block{i}")
            if flow is None:
                parts = [images, feats.reshape(b, 2 * FEATURES, h, w), time]
                flow, mask, handed = block(parts, None, scale)
            else:
                parts = [warped, warp_pair(feats, flow), time, mask, handed]
                added, mask, handed = block(parts, flow, scale)
                flow = flow + added
            warped = warp_pair(pair, flow)
            early, late = warped.chunk(2, 1)
            out.append((torch.lerp(late, early, torch.sigmoid(mask)), flow, mask))
        return out
