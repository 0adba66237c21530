"""IFNet in the state-dict layout of RIFE v4.26, at any channel widths, written for training.

Both frames travel in one tensor `pair` [b, 2, 3, h, w], and flow [b, 4, h, w] holds t→0 in channels 0, 1 and t→1 in 2, 3
(x before y), so that one warp serves both. Layout: `IFNet_HDv3` of hzwer/Practical-RIFE, v4.26.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

SCALES = (16, 8, 4, 2, 1)
# (block, scale) in order: RIFE's, each block once; and ours, the middle blocks on pictures half as large, then block 3 again.
ONCE = tuple(enumerate(SCALES))
AGAIN = ((0, 16), (1, 16), (2, 8), (3, 4), (3, 2), (4, 1))
# Of a file's header: blocks in their order, each with its scale, as "0:16,1:8,2:4,3:2,4:1"; RIFE's where there is none.
ORDER = "slomod.pyramid"
STARTER = (96, 64, 48, 32, 16)
STANDARD = (192, 128, 96, 64, 32)
SLOPE = 0.2
FEATURES = 4
HANDED_ON = 8
# Of pictures in 0..1, roughly.
PICTURE_MEAN, PICTURE_DEVIATION = 0.45, 0.25

_grids = {}
_enlargers = {}


def order_text(visits):
    return ",".join(f"{block}:{scale}" for block, scale in visits)


def order_of(header):
    """The visits that a file's header asks for."""
    text = header.get(ORDER)
    return tuple(tuple(map(int, visit.split(":"))) for visit in text.split(",")) if text else ONCE


def _grid(h, w, device):
    """Pixel grid [1, h, w, 2] in -1..1 (corners aligned) and grid units per pixel [2]; made once for each size."""
    key = (h, w, str(device))
    if key not in _grids:
        y, x = torch.meshgrid(torch.linspace(-1, 1, h, device=device), torch.linspace(-1, 1, w, device=device), indexing="ij")
        unit = torch.full((2,), 2 / (w - 1), device=device)
        unit[1] = 2 / (h - 1)
        _grids[key] = (torch.stack((x, y), -1)[None], unit)
    return _grids[key]


def sampling_grid(flow):
    """Where both frames are looked up: flow [b, 4, h, w] to a grid [2 b, h, w, 2], f32. One serves all that is warped by it."""
    b, _, h, w = flow.shape
    base, unit = _grid(h, w, flow.device)
    return base + flow.reshape(2 * b, 2, h, w).permute(0, 2, 3, 1) * unit


def warp_pair(pair, grid):
    """Both frames to time t: pair [b, 2, c, h, w] f32, `sampling_grid` of the flow; bilinear, borders repeated. [b, 2 c, h, w]."""
    b, _, c, h, w = pair.shape
    out = F.grid_sample(pair.reshape(2 * b, c, h, w), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return out.reshape(b, 2 * c, h, w)


def cubic_weights(t):
    """Of the taps -1, 0, 1 and 2 for a place t (0 to 1) behind tap 0: Keys' cubic convolution with a = -1/2, as slomod has it."""
    return (((1 - 0.5 * t) * t - 0.5) * t, (1.5 * t - 2.5) * t * t + 1, ((2 - 1.5 * t) * t + 0.5) * t, (0.5 * t - 0.5) * t * t)


def warp_pair_cubic(pair, flow, inside=None):
    """`warp_pair` by a cubic over sixteen pixels, which slomod makes its pictures with; pair [b, 2, c, h, w], flow [b, 4, h, w].

    Rows and columns from those of `inside` on are padding and not read: the last ones before are repeated.
    """
    b, _, c, h, w = pair.shape
    base, _ = _grid(h, w, flow.device)
    frames = pair.reshape(2 * b, c, h * w)
    taps, weights = [], []
    rows, columns = inside or (h, w)
    for axis, size, n in ((0, w, columns), (1, h, rows)):
        at = (base[..., axis] + 1) * ((size - 1) / 2) + flow.reshape(2 * b, 2, h, w)[:, axis]
        at = at.clamp(0, n - 1)
        first = at.detach().floor()
        weights.append(cubic_weights((at - first).reshape(2 * b, 1, h * w)))
        taps.append([(first.long() + i).clamp(0, n - 1).reshape(2 * b, 1, h * w) for i in (-1, 0, 1, 2)])
    out = 0
    for row, weight_y in zip(taps[1], weights[1]):
        line = 0
        for column, weight_x in zip(taps[0], weights[0]):
            line = line + weight_x * frames.gather(2, (row * w + column).expand(-1, c, -1))
        out = out + weight_y * line
    return out.reshape(b, 2 * c, h, w)


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
        x = x.to(self.cnn0.weight.dtype)
        for conv in (self.cnn0, self.cnn1, self.cnn2):
            x = F.leaky_relu(conv(x), SLOPE)
        return self.cnn3(x)


class ResConv(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 1, 1)
        self.beta = nn.Parameter(torch.ones(1, c, 1, 1))

    def forward(self, x):
        return F.leaky_relu(torch.addcmul(x, self.conv(x), self.beta), SLOPE)


class IFBlock(nn.Module):
    def __init__(self, inputs, c):
        super().__init__()
        down = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.LeakyReLU(SLOPE))
        self.conv0 = nn.Sequential(down(inputs, c // 2), down(c // 2, c))
        self.convblock = nn.Sequential(*[ResConv(c) for _ in range(8)])
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(c, 4 * (5 + HANDED_ON), 4, 2, 1), nn.PixelShuffle(2))

    def forward(self, parts, low, scale):
        """parts: images that are shrunk by `scale` and joined; low: what is of the block's size already, behind them.

        Returns [b, 4 + 1 + HANDED_ON, h / scale, w / scale]: the flow to add in pixels of that size, mask logits, features. What
        the block computes in is the type of its weights; flows, masks and resizing stay in f32.
        """
        parts = [shrink(part, scale) for part in parts]
        size = parts[0].shape[2:]
        joined = torch.cat([part.expand(-1, -1, *size) for part in parts] + low, 1)
        out = self.lastconv(self.convblock(self.conv0(joined.to(self.conv0[0][0].weight.dtype))))
        return out.to(torch.float32, memory_format=torch.contiguous_format)


class IFNet(nn.Module):
    def __init__(self, widths=STARTER, visits=AGAIN):
        super().__init__()
        self.visits = visits
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

    def forward(self, pair, t, cubic=True, inside=None):
        """pair [b, 2, 3, h, w] in 0..1, sides multiples of 64; t [b]. Returns (merged, flow, mask) for each block.

        With `cubic` the last block's picture reads the frames so, which is what slomod does, and of padded ones no more than
        `inside`; without, as RIFE's program.
        """
        b, _, _, h, w = pair.shape
        images = pair.reshape(b, 6, h, w)
        feats = self.encode(pair.reshape(2 * b, 3, h, w))
        feats = feats.to(torch.float32, memory_format=torch.contiguous_format).reshape(b, 2, FEATURES, h, w)
        time = t.view(b, 1, 1, 1)
        flow = None
        # Flows that blocks left at a scale, in picture pixels: an output of a block's own size is taken as it is.
        left = {}
        out = []
        for number, (i, scale) in enumerate(self.visits, 1):
            block = getattr(self, f"block{i}")
            if flow is None:
                made = block([images, feats.reshape(b, 2 * FEATURES, h, w), time], [], scale)
                flow = 0
            else:
                own = left.get(scale)
                low = shrink(flow, scale) if own is None else shrink(flow - enlarge(own, scale), scale) + own
                low = [made[:, 4:] if scale == before else shrink(rest, scale), low / scale]
                made = block([warped, warp_pair(feats, grid), time], low, scale)
            before = scale
            added = made[:, :4] * scale
            flow = flow + enlarge(added, scale)
            left[scale] = left[scale] + added if scale in left else added
            rest = enlarge(made[:, 4:], scale)
            mask = rest[:, :1]
            if cubic and number == len(self.visits):
                warped = warp_pair_cubic(pair, flow, inside)
            else:
                grid = sampling_grid(flow)
                warped = warp_pair(pair, grid)
            early, late = warped.chunk(2, 1)
            out.append((torch.lerp(late, early, torch.sigmoid(mask)), flow, mask))
        return out
