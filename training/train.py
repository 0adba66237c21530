"""Trains slomod's own weights on drawn scenes: `python train.py --photos data/photos --out runs/new --seconds 300`.

Both networks learn from the same batches. On a GPU the next batch is drawn on a stream of its own while they work.
"""
import time

STARTED = time.time()

import argparse
import math
import os
import pathlib
import signal
import sys

import torch

import ifnet
from clips import Clips, Mixed, credits
from drawer import Drawer
from export import data, origin, read_state, widths_of
from masks import mask_bank
from measure import measure_drawn, measure_triplets, psnr_db
from scenes import Scenes
from textures import picture_files, read_photos, texture_bank
from trainee import Trainee
from widen import widened

# Widths and peak learning rate.
NETWORKS = {"starter": (ifnet.STARTER, 1e-3), "standard": (ifnet.STANDARD, 7e-4)}
# Share of the run in which the rate rises, and what is left of it at the end.
RISE = 0.04
FLOOR = 0.002
# Weight of the flow term at the end, per pixel of error.
LAST_FLOW_WEIGHT = 0.0005
HELD_OUT_SEED = 4242
# Phases.
ON_GPU = "128x64:0.3,192x32:0.35,256x20:0.35"
ON_CPU = "128x8:0.7,256x4:0.3"


def networks(text):
    """`starter,standard` or `NAME=16/16/16/16/16`: [(name, widths, peak learning rate)]."""
    out = []
    for part in text.split(","):
        name, _, custom = part.partition("=")
        if not custom and name not in NETWORKS:
            raise argparse.ArgumentTypeError(f"network {name} is none of {', '.join(NETWORKS)}; give widths: {name}=16/16/16/16/16")
        widths, rate = NETWORKS.get(name, NETWORKS["starter"])
        try:
            out.append((name, tuple(map(int, custom.split("/"))) if custom else widths, rate))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{custom} is no widths, such as 16/16/16/16/16") from None
        if len(out[-1][1]) != len(ifnet.SCALES):
            raise argparse.ArgumentTypeError(f"{name} needs {len(ifnet.SCALES)} widths, not {custom}")
    return out


def phases(text):
    """`128x64:0.35,192x32:0.35`: crop, scenes in a batch, share of the run."""
    out = []
    for part in text.split(","):
        size, share = part.split(":")
        crop, batch = size.split("x")
        if int(crop) % 64:
            raise argparse.ArgumentTypeError(f"crop {crop} is not a multiple of 64")
        out.append((int(crop), int(batch), float(share)))
    return out


def first_weights(folder, name, widths):
    """The file in `folder` that a network starts from: its own, or else the widest of those that can be widened to it."""
    own = folder / f"{name}.safetensors"
    if own.exists():
        return own
    files = [file for other in NETWORKS if (file := folder / f"{other}.safetensors").exists()]
    found = [(widths_of(read_state(file)), file) for file in files]
    narrower = [(other, file) for other, file in found if all(a <= b for a, b in zip(other, widths))]
    return max(narrower)[1] if narrower else None


def arguments(given=None):
    """What `given`, or else the command line, asks for; ends the program where that cannot be done."""
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--networks", type=networks, help="names, with widths of your own as NAME=16/16/16/16/16; without: "
                    "starter and standard on a GPU, starter on a CPU")
    ap.add_argument("--seconds", type=float, default=1200, help="wall clock for everything, start and end included")
    ap.add_argument("--reserve", type=float, default=8, help="seconds of these kept for the last measuring and writing")
    ap.add_argument("--steps", type=int, default=0, help="stop after so many steps instead; repeatable on a CPU")
    ap.add_argument("--phases", type=phases, help=f"crops of so many pixels x scenes in a batch : share of the run; without: {ON_GPU} "
                    f"on a GPU, {ON_CPU} on a CPU")
    ap.add_argument("--rate", type=float, default=1, help="factor on the learning rates; the shipped weights went on with 0.8, then 0.6")
    ap.add_argument("--flow-weight", type=float, default=0.05, help="of the flow term at the start, per pixel of error")
    ap.add_argument("--uses", type=int, default=3, help="batches made for each that is drawn, mixed and turned; 1: as drawn")
    ap.add_argument("--photos", help="folder of pictures (photos.py)")
    ap.add_argument("--clips", help="folder of shots (clips.py) of which crops are mixed with the drawn scenes")
    ap.add_argument("--clip-share", type=float, default=0.5, help="of a batch, where there are clips")
    ap.add_argument("--triplets", help="folder of triplets to measure on; never trained on")
    ap.add_argument("--textures", type=int, default=1500)
    ap.add_argument("--texture-side", type=int, default=320)
    ap.add_argument("--masks", type=int, default=600)
    ap.add_argument("--held-out", type=int, default=24, help="drawn scenes to measure on")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--init", help="folder with NAME.safetensors to start from; a network that it has not starts from the widest of the others, "
                    "widened, or else from random numbers")
    ap.add_argument("--save-state", action="store_true", help="also write state.pt: all that --resume needs (large)")
    ap.add_argument("--resume", action="store_true", help="go on from state.pt in --out")
    ap.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/new"))
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    ap.add_argument("--threads", type=int, default=os.cpu_count(), help="on a CPU")
    ap.add_argument("--precision", choices=["f32", "bf16"], help="of the convolutions; without: bf16 on a GPU, f32 on a CPU")
    ap.add_argument("--no-graph", action="store_true", help="launch kernel by kernel")
    ap.add_argument("--log-every", type=int, default=100, help="steps")
    ap.add_argument("--write-every", type=float, default=60, help="seconds")
    args = ap.parse_args(given)
    on_gpu = args.device.startswith("cuda")
    args.networks = args.networks or networks("starter,standard" if on_gpu else "starter")
    args.phases = args.phases or phases(ON_GPU if on_gpu else ON_CPU)
    # A mistyped path must not cost a run.
    if args.photos and not (pathlib.Path(args.photos).is_dir() and any(pathlib.Path(args.photos).glob("*.png"))):
        ap.error(f"--photos {args.photos}: no folder with pictures (PNG); photos.py makes one")
    if args.photos and any(pathlib.Path(args.photos).rglob("gt.png")):
        ap.error(f"--photos {args.photos}: holds triplets with a true frame (gt.png): a test set is never trained on")
    if args.clips and not any(pathlib.Path(args.clips).glob("*.npy")):
        ap.error(f"--clips {args.clips}: no folder with shots (.npy); clips.py makes one")
    if args.triplets and not any(pathlib.Path(args.triplets).glob("*/gt.png")):
        ap.error(f"--triplets {args.triplets}: no folder with folders of frame10.png, frame11.png and gt.png")
    first = {name: first_weights(pathlib.Path(args.init), name, widths) for name, widths, _ in args.networks} if args.init else {}
    if args.init and not any(first.values()):
        ap.error(f"--init {args.init}: no {' or '.join(f'{name}.safetensors' for name, _, _ in args.networks)} there, nor a narrower network's")
    args.init = first
    args.precision = {"f32": torch.float32, "bf16": torch.bfloat16, None: None}[args.precision]
    if args.resume and not (args.out / "state.pt").exists():
        ap.error(f"--resume: no state.pt in {args.out}; the run before needs --save-state")
    return args


class Run:
    def __init__(self, args):
        self.args, self.device = args, torch.device(args.device)
        self.cuda = self.device.type == "cuda"
        args.out.mkdir(parents=True, exist_ok=True)
        self.log_file = open(args.out / "log.txt", "a")
        self.stopped = False
        self.step = 0
        self.spent = 0.0

    def log(self, text):
        line = f"{time.time() - STARTED:7.1f} s  {text}"
        print(line, flush=True)
        self.log_file.write(line + "\n")
        self.log_file.flush()

    def stop(self, *_):
        self.stopped = True

    def make_banks(self):
        args, device = self.args, self.device
        photos = read_photos(args.photos, device)
        films = credits(path.name for path in pathlib.Path(args.clips).glob("*.npy")) if args.clips else ()
        self.data = data([path.stem for path in picture_files(args.photos)], films)
        few = max(16, args.textures // 20)
        held = texture_bank(photos, few, args.texture_side, HELD_OUT_SEED, device)
        held_masks = mask_bank(few, 192, HELD_OUT_SEED + 1, device)
        torch.manual_seed(HELD_OUT_SEED)
        side = max(crop for crop, _, _ in args.phases)
        self.held_out = Scenes(*held, held_masks, side, max(2, args.held_out)).draw()
        held_clips = pathlib.Path(args.clips or "nowhere") / "held-out"
        self.held_clips = Clips(held_clips, side, max(2, args.held_out), device).draw() if held_clips.is_dir() else None
        self.bank = (*texture_bank(photos, args.textures, args.texture_side, args.seed, device),
                     mask_bank(args.masks, 192, args.seed + 1, device))
        self.log(f"{len(photos)} pictures, {self.bank[0].shape[0]} textures, {self.bank[2].shape[0]} outlines")

    def make_trainees(self):
        args = self.args
        torch.manual_seed(args.seed)
        self.trainees = []
        for name, widths, rate in args.networks:
            first = args.init.get(name)
            state, begun_with = (read_state(first), origin(first)) if first else (None, None)
            wider = bool(first) and widths_of(state) != widths
            self.log(f"{name} starts from {first or 'random numbers'}{', widened' if wider else ''}")
            if wider:
                state = widened(state, widths)
            self.trainees.append(Trainee(name, widths, rate * args.rate, self.device, state, args.precision, begun_with))
        if args.resume:
            # PyTorch 1's reader of weights alone knows no numbers beside tensors.
            alone = {"weights_only": True} if int(torch.__version__.split(".")[0]) > 1 else {}
            saved = torch.load(args.out / "state.pt", map_location=self.device, **alone)
            for trainee in self.trainees:
                trainee.restore(saved[trainee.name])
            self.step, self.spent = saved["step"], saved["spent"]
            self.log(f"goes on at step {self.step}")
        # Runs that go on from each other with the same seed see other scenes.
        before = max(int((trainee.begun_with or {}).get("slomod.steps_before", 0)) for trainee in self.trainees)
        torch.manual_seed(args.seed + 2 + self.step + before)

    def progress(self):
        if self.args.steps:
            return self.step / self.args.steps
        past = self.spent + time.time() - self.begun
        return past / (self.spent + self.left)

    def write(self):
        for trainee in self.trainees:
            try:
                trainee.export(self.args.out / f"{trainee.name}.safetensors", self.args.seed, self.data)
            except ValueError as error:
                self.log(str(error))
        if self.args.save_state:
            saved = {t.name: t.state() for t in self.trainees}
            saved |= {"step": self.step, "spent": self.spent + time.time() - self.begun}
            torch.save(saved, self.args.out / "state.pt.partial")
            (self.args.out / "state.pt.partial").replace(self.args.out / "state.pt")

    def measure(self, when):
        for trainee in self.trainees:
            net = trainee.averaged()
            db, error = measure_drawn(net, self.held_out)
            text = f"{when}: {trainee.name} drawn {db:.2f} dB, flow error {error:.2f} px"
            if self.held_clips:
                text += f"; clips held out {measure_drawn(net, self.held_clips)[0]:.2f} dB"
            if self.args.triplets:
                found = measure_triplets(net, self.args.triplets, self.device)
                mean = sum(db for _, db in found) / max(1, len(found))
                text += f"; triplets {mean:.2f} dB (" + ", ".join(f"{n} {db:.2f}" for n, db in found) + ")"
            self.log(text)

    def train(self):
        self.begun = time.time()
        self.left = self.args.seconds - self.args.reserve - (self.begun - STARTED)
        if self.left <= 0 and not self.args.steps:
            raise SystemExit(f"nothing is left to train in: {self.begun - STARTED:.0f} of {self.args.seconds:.0f} s went by before the "
                             f"first step and {self.args.reserve:.0f} s are kept for the end. More --seconds, or fewer --textures and --masks")
        done = 0.0
        for i, (crop, batch, share) in enumerate(self.args.phases):
            done += share
            until = 1.0 if i + 1 == len(self.args.phases) else done / sum(s for _, _, s in self.args.phases)
            if self.progress() < until and not self.stopped:
                self.phase(crop, batch, until)
                self.write()
                if until < 1 and not self.stopped:
                    self.measure(f"step {self.step}")

    def phase(self, crop, batch, until):
        clips = min(batch - 1, round(batch * self.args.clip_share)) if self.args.clips else 0
        scenes = Scenes(*self.bank, crop, batch - clips)
        drawer = Drawer(Mixed(scenes, Clips(self.args.clips, crop, clips, self.device)) if clips else scenes, self.args.uses)
        if self.cuda:
            torch.cuda.synchronize()
        for trainee in self.trainees:
            trainee.prepare(drawer.batch, not self.args.no_graph)
        self.log(f"crops of {crop} px, {batch} a batch{f', {clips} of clips' if clips else ''}{self.costs(drawer)}")
        ends = []
        mark, mark_step, written = time.time(), self.step, time.time()
        first = self.step
        while (progress := self.progress()) < until and not self.stopped:
            drawer.refill()
            current = torch.cuda.current_stream() if self.cuda else None
            rate = min(1, (progress + 1e-4) / RISE) * (FLOOR + (1 - FLOOR) * (0.5 + 0.5 * math.cos(math.pi * min(1, progress))))
            flow_weight = LAST_FLOW_WEIGHT + self.args.flow_weight * (1 - min(1, progress)) ** 2
            for trainee in self.trainees:
                if self.cuda:
                    trainee.stream.wait_stream(current)
                trainee.step(rate, flow_weight)
            drawer.draw_ahead()
            self.step += 1
            if self.cuda:
                for trainee in self.trainees:
                    current.wait_stream(trainee.stream)
                # Two steps are queued at most: the clock that sets the rate must not run ahead of the device.
                ends.append(torch.cuda.Event())
                ends[-1].record(current)
                if len(ends) > 2:
                    ends.pop(0).synchronize()
            if self.step - first == 20 or self.step % self.args.log_every == 0:
                self.report(progress, rate, (self.step - mark_step) / (time.time() - mark))
                mark, mark_step = time.time(), self.step
            if time.time() - written > self.args.write_every:
                self.write()
                written = time.time()
        if self.cuda:
            torch.cuda.synchronize()

    def costs(self, drawer):
        """How long drawing a batch and each network's step take, in words. A rate of 0 leaves the weights alone."""
        if not self.cuda:
            return ""

        def milliseconds(call, times=8):
            torch.cuda.synchronize()
            begun = time.time()
            for _ in range(times):
                call()
            torch.cuda.synchronize()
            return (time.time() - begun) * 1000 / times

        text = f"; alone, drawing takes {milliseconds(drawer.scenes.draw):.1f} ms"
        for trainee in self.trainees:
            with trainee.on_stream():
                trainee.rate.zero_()
                text += f", {trainee.name} {milliseconds(trainee.run):.1f} ms"
        return text

    def report(self, progress, rate, speed):
        """Waits for the device. Stops the run where a loss is no number: what was written before stays."""
        parts = []
        for trainee in self.trainees:
            loss, squared, error, _ = trainee.stats.tolist()
            parts.append(f"{trainee.name} loss {loss:.4f}, {psnr_db(squared):.2f} dB, flow error {error:.2f} px")
            if not math.isfinite(loss) and not trainee.finite():
                raise SystemExit(f"{trainee.name}: weights are no longer finite at step {self.step}")
        self.log(f"step {self.step} ({progress:.0%}) {speed:.1f}/s rate x{rate:.2f}: " + "; ".join(parts))


def main(given=None):
    args = arguments(given)
    torch.set_num_threads(args.threads)
    # True f32 outside autocast: coordinates and measured pictures need it.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    run = Run(args)
    signal.signal(signal.SIGTERM, run.stop)
    signal.signal(signal.SIGINT, run.stop)
    if run.cuda:
        run.log(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    run.make_banks()
    run.make_trainees()
    run.train()
    run.measure("end")
    run.log(f"{run.step} steps; weights in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
