"""What the network is held to: the true frame at every block, the exact flow (annealed away), details of the last block."""
import torch
import torch.nn.functional as F

# A block counts this much less than the next.
DECAY = 0.8
LAPLACIAN = 0.5
LEVELS = 4

# In the Charbonnier distance.
SOFT = 1e-3

_kernels = {}


def _soft(device):
    if str(device) not in _kernels:
        _kernels[str(device)] = torch.tensor(SOFT, device=device)
    return _kernels[str(device)]


def _kernel(channels, device):
    key = (channels, str(device))
    if key not in _kernels:
        k = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=device)
        _kernels[key] = ((k[:, None] * k[None]) / 256).expand(channels, 1, 5, 5).contiguous()
    return _kernels[key]


def pyramid(x):
    """Laplacian pyramid of pictures with even sides at each level, fine to coarse, the rest last."""
    k = _kernel(x.shape[1], x.device)
    out = []
    for _ in range(LEVELS):
        small = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), k, stride=2, groups=x.shape[1])
        # A small pixel lies on every second large one: sizes n + 1 with corners aligned, or all would be half a pixel off.
        h, w = x.shape[2:]
        enlarged = F.interpolate(F.pad(small, (0, 1, 0, 1), mode="replicate"), size=(h + 1, w + 1), mode="bilinear", align_corners=True)
        out.append(x - enlarged[:, :, :h, :w])
        x = small
    return out + [x]


def end_point_error(flow, truth):
    """[b, 2, h, w] in pixels, for both flows."""
    b, _, h, w = flow.shape
    return ((flow - truth).view(b, 2, 2, h, w).square().sum(2) + 1e-4).sqrt()


def loss(outs, truth, flow, flow_weight):
    """(loss, [4] loss, squared error, error of the last flow in pixels, weight of the flow term). Where nobody knows the flow it is
    NaN, and that term left out."""
    total, soft = 0, _soft(truth.device)
    known = flow[:, :1].isfinite()
    share = known.float().mean().clamp(min=1e-6)
    flow = torch.where(known, flow, torch.zeros_like(flow))
    for i, (merged, estimate, _) in enumerate(outs):
        # hypot(d, s) is the root of d^2 + s^2 in one pass.
        l1 = torch.hypot(merged - truth, soft).mean()
        error = (end_point_error(estimate, flow) * known).mean()
        total = total + DECAY ** (len(outs) - 1 - i) * (l1 + flow_weight * error)
    # The pyramid is linear: that of the difference is the difference of both.
    difference = outs[-1][0] - truth
    details = sum(2 ** k * level.abs().mean() for k, level in enumerate(pyramid(difference)))
    total = total + LAPLACIAN * details
    squared = difference.detach().square().mean()
    return total, torch.stack((total.detach(), squared, error.detach() / share, flow_weight))
