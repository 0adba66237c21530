"""Keeps the batch that the networks learn from in place, and draws the scenes of later batches meanwhile."""
import torch

# Batches whose scenes are kept, where scenes are used more than once.
KEPT = 4


def turned(batch, across, down, diagonal, backwards):
    """The same scenes mirrored in x, in y, in the diagonal, and with time running backwards; each flag is a bool."""
    pair, truth, flow, t = batch
    b, _, h, w = flow.shape
    flow = flow.view(b, 2, 2, h, w)
    for flag, axis, component in ((across, -1, 0), (down, -2, 1)):
        if flag:
            pair, truth, flow = pair.flip(axis), truth.flip(axis), flow.flip(axis)
            flow = torch.cat([-part if i == component else part for i, part in enumerate(flow.split(1, 2))], 2)
    if diagonal:
        pair, truth, flow = pair.transpose(-1, -2), truth.transpose(-1, -2), flow.transpose(-1, -2).flip(2)
    if backwards:
        pair, flow, t = pair.flip(1), flow.flip(1), 1 - t
    return pair, truth, flow.reshape(b, 4, *flow.shape[-2:]), t


class Drawer:
    """`batch`: pair, truth, flow and t (`Scenes.draw`), refilled in place.

    With `uses` over 1 a batch is mixed from the scenes of the last KEPT ones drawn, turned at random, and so many batches are
    made for each that is drawn. On a GPU scenes are drawn on a stream of their own.
    """

    def __init__(self, scenes, uses=1):
        self.scenes, self.uses, self.left, self.oldest = scenes, uses, uses, 0
        self.cuda = scenes.device.type == "cuda"
        self.batch = [v.clone() for v in scenes.draw()]
        self.kept = []
        if uses > 1:
            drawn = [self.batch] + [scenes.draw() for _ in range(KEPT - 1)]
            self.kept = [torch.cat(parts) for parts in zip(*drawn)]
        self.wanted = False
        if self.cuda:
            self.next = [torch.empty_like(v) for v in self.batch]
            self.stream = torch.cuda.Stream()
            self.drawn, self.taken = torch.cuda.Event(), torch.cuda.Event()
            self.stream.wait_stream(torch.cuda.current_stream())
            self._draw()

    def _draw(self):
        with torch.cuda.stream(self.stream):
            for place, new in zip(self.next, self.scenes.draw()):
                place.copy_(new)
            self.drawn.record(self.stream)

    def _take(self, places):
        """The next scenes drawn into `places`, on the current stream."""
        if not self.cuda:
            for place, new in zip(places, self.scenes.draw()):
                place.copy_(new)
            return
        current = torch.cuda.current_stream()
        current.wait_event(self.drawn)
        for place, new in zip(places, self.next):
            place.copy_(new)
        self.taken.record(current)
        self.stream.wait_event(self.taken)
        self.wanted = True

    def refill(self):
        """Puts the next scenes into `batch`, on the current stream."""
        if self.uses == 1:
            self._take(self.batch)
            return
        count = self.batch[0].shape[0]
        if self.left == 0:
            self._take([v[self.oldest * count:(self.oldest + 1) * count] for v in self.kept])
            self.left, self.oldest = self.uses, (self.oldest + 1) % KEPT
        self.left -= 1
        rows = torch.randperm(KEPT * count, device=self.scenes.device)[:count]
        flags = (torch.rand(4) < 0.5).tolist()
        for place, new in zip(self.batch, turned([v[rows] for v in self.kept], *flags)):
            place.copy_(new)

    def draw_ahead(self):
        """Call when the networks are on their way: queues the drawing of the scenes after these, if they were taken."""
        if self.wanted:
            self.wanted = False
            self._draw()
