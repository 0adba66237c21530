"""Makes a wider network of a narrower one's weights, which at first gives the same pictures.

The channels that are added start from random numbers, and nothing that was there before counts them: their outgoing weights
are 0 and learn first. Source: "function-preserving" growth as in Net2Net (T. Chen, I. Goodfellow, J. Shlens, ICLR 2016),
without its copies of channels, whose gradients would be the same.
"""
import torch
import torch.nn as nn

from ifnet import IFNet


@torch.no_grad()
def widened(state, widths):
    """The state dict of an IFNet of `widths` from that of a narrower one. Refuses a wider one: ValueError."""
    net = IFNet(widths)
    net.initialize()
    for name, module in net.named_modules():
        for kind, parameter in module.named_parameters(recurse=False):
            old = state[f"{name}.{kind}"]
            if any(a > b for a, b in zip(old.shape, parameter.shape)):
                raise ValueError(f"{name}.{kind} is {tuple(old.shape)}, too wide for {tuple(parameter.shape)}")
            if kind == "weight":
                outputs = 1 if isinstance(module, nn.ConvTranspose2d) else 0
                parameter.narrow(outputs, 0, old.shape[outputs]).zero_()
            parameter[tuple(slice(size) for size in old.shape)] = old
    return net.state_dict()
