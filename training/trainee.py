"""One network in training: its optimizer, its running average, and its step as one CUDA graph.

A step is many small kernels, and launching them one by one takes longer than running them. So for each size of batch the
whole step (forward, loss, backward, clipping, AdamW) is captured once and replayed. What changes between steps lives in
tensors that stay in place: batch, learning rate, weight of the flow term. Nothing in a step waits for the device.
Source: "CUDA Graphs: whole-network capture" in PyTorch's notes.
"""
import contextlib

import torch

from export import write
from ifnet import IFNet
from losses import loss

CLIP = 1.0
AVERAGE = 0.999
WARM_UPS = 4


class Trainee:
    def __init__(self, name, widths, peak_rate, device, state=None):
        self.name, self.widths, self.peak_rate, self.device = name, widths, peak_rate, device
        self.cuda = device.type == "cuda"
        net = IFNet(widths)
        if state is None:
            net.initialize()
        else:
            net.load_state_dict(state)
        self.net = net.to(device, memory_format=torch.channels_last)
        self.parameters = list(self.net.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.rate = torch.zeros((), device=device)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True,
                                           capturable=self.cuda)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        # The fused optimizer leaves out a step for which this is 1: one with gradients that are not finite.
        self.optimizer.found_inf = torch.zeros((), device=device)
        self.optimizer.grad_scale = None
        self.flow_weight = torch.zeros((), device=device)
        self.stream = torch.cuda.Stream() if self.cuda else None
        self.steps = 0
        self.run = self.stats = None

    def on_stream(self):
        return torch.cuda.stream(self.stream) if self.cuda else contextlib.nullcontext()

    def _step(self, batch):
        pair, truth, flow, t = batch
        self.optimizer.zero_grad(set_to_none=True)
        # The cache of cast weights would outlive the capture.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.cuda, cache_enabled=False):
            outs = self.net(pair, t)
        total, stats = loss(outs, truth, flow, self.flow_weight)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, CLIP, foreach=True)
        self.optimizer.found_inf.copy_((~torch.isfinite(norm)).float())
        self.optimizer.step()
        return stats

    def prepare(self, batch, graph):
        """Makes `run` for this batch, whose tensors are refilled in place. A capture that fails leaves the plain step."""
        def plain():
            self.stats = self._step(batch)

        self.run = plain
        if not (self.cuda and graph):
            return
        # Warm-ups with rate 0 change the moments only.
        self.rate.zero_()
        current = torch.cuda.current_stream()
        torch.cuda.synchronize()
        try:
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UPS):
                    self._step(batch)
            torch.cuda.synchronize()
            self.optimizer.zero_grad(set_to_none=True)
            captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(captured, stream=self.stream):
                self.stats = self._step(batch)
            torch.cuda.synchronize()
            self.run = captured.replay
        except Exception as error:  # Whatever went wrong, training without the graph still works.
            print(f"{self.name}: no CUDA graph, going on without: {type(error).__name__}: {error}", flush=True)
            torch.cuda.set_stream(current)
            torch.cuda.synchronize()
            self.optimizer.zero_grad(set_to_none=True)
            self.run = plain

    def step(self, rate_share, flow_weight):
        """One step on the batch given to `prepare`; queued on the network's stream."""
        with self.on_stream():
            self.rate.fill_(self.peak_rate * rate_share)
            self.flow_weight.fill_(flow_weight)
            self.run()
            self.steps += 1
            share = max(1 - AVERAGE, 9 / (self.steps + 9))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.parameters, share)

    def averaged(self):
        """The averaged network, in f32, for measuring."""
        net = IFNet(self.widths).to(self.device)
        with torch.no_grad():
            for p, q in zip(net.parameters(), self.average):
                p.copy_(q)
        return net.eval()

    def finite(self):
        return all(bool(p.isfinite().all()) for p in self.average)

    def export(self, path, seed):
        names = [name for name, _ in self.net.named_parameters()]
        write(path, dict(zip(names, self.average)), self.widths, self.steps, seed)

    def state(self):
        return {"net": self.net.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict(),
                "steps": self.steps}

    def restore(self, state):
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        # Loading puts a copy of the rate in place; the step needs ours.
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        with torch.no_grad():
            for p, q in zip(self.average, state["average"]):
                p.copy_(q)
        self.steps = state["steps"]
