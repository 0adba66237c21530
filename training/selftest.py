"""One minute on a CPU: `python selftest.py [--slomod PATH]`; with `--device cuda` the same as a GPU does it.

Checks that the flow of drawn scenes takes both frames to the true one, that a rolling shutter rolls, that a few steps lower
the loss and steps in bf16 go the same way, that a widened network goes on where the narrow one was, that a run with the same
seed gives the same weights, that the exported file carries its metadata and, where a slomod program is given, that slomod
makes the same picture from it as PyTorch.
"""
import argparse
import contextlib
import hashlib
import io
import itertools
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image

from clips import Clips, Mixed, main as clips_main, shots
from drawer import Drawer, turned
from export import data, read_header, read_network
from ifnet import IFNet, sampling_grid, warp_pair
from losses import pyramid
from masks import mask_bank
from measure import interpolate, read_picture
from scenes import Scenes
from textures import texture_bank
from train import main as train_main
from trainee import Trainee
from widen import widened

WIDTHS = (16, 16, 16, 16, 16)
WIDER = (24, 16, 32, 18, 24)
STEPS = 60
# Of the runs that must come to the same weights.
REPEATED = 8
# Of losses between bf16 and f32, and between two runs on a GPU, which sums in other orders.
APART = 0.05
# Between 8-bit pictures: f16 arithmetic and another order of sums; a sample at an edge may differ by more than one level.
MEAN_TOLERANCE = 0.1
MAX_TOLERANCE = 4


def check(name, passed, detail):
    print(f"{'ok' if passed else 'FAILED'}: {name} ({detail})", flush=True)
    if not passed:
        sys.exit(1)


def scenes(batch, device=torch.device("cpu"), **kind):
    textures, softness = texture_bank([], 20, 96, 5, device)
    return Scenes(textures, softness, mask_bank(16, 96, 6, device), 64, batch, **kind)


def train(batch, steps, precision=torch.float32, graph=False):
    torch.manual_seed(7)
    trainee = Trainee("selftest", WIDTHS, 2e-3, batch[0].device, precision=precision)
    if trainee.prepare(batch, graph) != graph:
        check("a step becomes a graph", False, "see above")
    losses = []
    for _ in range(steps):
        trainee.step(1, 0.01)
        losses.append(trainee.stats[0].item())
    return trainee, losses


def difference(pair, flow, truth, rows=slice(None)):
    """Of the frames taken by the flow from the truth. The better of both directions: what only one frame shows is not the flow's fault."""
    warped = warp_pair(pair, sampling_grid(flow))
    best = torch.minimum((warped[:, :3] - truth).abs(), (warped[:, 3:] - truth).abs())
    return best[:, :, rows].mean().item()


def flow_is_exact(what, **kind):
    torch.manual_seed(8)
    pair, truth, flow, _ = scenes(24, **kind).draw()
    best = difference(pair, flow, truth)
    mean = (pair.mean(1) - truth).abs().mean().item()
    check(f"flow takes the frames to the truth{what}", best < 0.5 * mean, f"difference {best:.4f}, of the mean of both {mean:.4f}")


def used_again():
    """Mirrored and reversed scenes, in each of the sixteen ways, and batches mixed of them."""
    torch.manual_seed(12)
    batch = scenes(12).draw()
    exact = difference(batch[0], batch[2], batch[1])
    ways = [turned(batch, *way) for way in itertools.product((False, True), repeat=4)]
    worst = max(difference(pair, flow, truth) for pair, truth, flow, _ in ways)
    times = all(torch.equal(way[3], 1 - batch[3] if i % 2 else batch[3]) for i, way in enumerate(ways))
    check("mirrored and reversed scenes have their flow", worst < 1.01 * exact and times, f"difference {exact:.4f}, at most {worst:.4f}")
    drawer = Drawer(scenes(12), uses=3)
    draw, drawn = drawer.scenes.draw, []
    drawer.scenes.draw = lambda: drawn.append(1) or draw()
    worst, last, repeated = 0, None, False
    for _ in range(9):
        drawer.refill()
        drawer.draw_ahead()
        pair, truth, flow, _ = drawer.batch
        repeated |= last is not None and torch.equal(last, truth)
        worst, last = max(worst, difference(pair, flow, truth)), truth.clone()
    check("mixed batches have their flow", worst < 2 * exact and len(drawn) == 2 and not repeated,
          f"difference at most {worst:.4f}, {len(drawn)} drawn for 9")


def far_and_coded():
    """Things move up to a quarter of the picture, the ground as well; blocks take colour away before brightness."""
    torch.manual_seed(13)
    drawn = scenes(400)
    length = drawn._plan()["move"].norm(dim=-1)
    ground, most = length[:, 0].max().item() / drawn.crop, length.max().item() / drawn.crop
    check("motion reaches a quarter of the picture and stays below", 0.2 < ground < 0.251 and 0.24 < most < 0.251,
          f"{ground:.3f} of the ground, {most:.3f} of all")
    # Stripes a pixel wide: one picture in brightness, one in colour alone.
    stripes = (torch.arange(64) % 2).float().expand(64, 64)
    gray = 0.3 + 0.4 * stripes.expand(3, 64, 64)
    tint = torch.tensor([0.2, 0.0, 0.0]).view(3, 1, 1) * (stripes * 2 - 1)
    tint = 0.5 + tint - (tint * drawn.luma).sum(0)
    coded = drawn._blocks(torch.stack((gray, tint)).expand(400, 2, 3, 64, 64).contiguous())
    lost = [(coded[:, i] - of).abs().amax((1, 2, 3)) for i, of in enumerate((gray, tint))]
    touched = lost[1] > 0.01
    untouched, brightness, colour = 1 - touched.float().mean().item(), lost[0][touched].median().item(), lost[1][touched].median().item()
    check("blocks lose colour first", 0.5 < untouched < 0.7 and 0 < brightness < 0.5 * colour,
          f"{untouched:.2f} of the scenes as they were, of stripes {brightness:.3f} of the brightness and {colour:.3f} of the colour lost")


def shutter_rolls():
    """A row in the middle is read at the frame's time; the further from there, the further things have moved."""
    truths, flows = [], []
    for readout in (0, 0.5):
        torch.manual_seed(11)
        pair, truth, flow, _ = scenes(24, rolling_every=1, readout=(readout, readout)).draw()
        truths.append(truth)
        flows.append(flow)
    rows, outside = (truths[1] - truths[0]).abs().mean((0, 1, 3)), [*range(8), *range(56, 64)]
    middle, outer = rows[28:36].mean().item(), rows[outside].mean().item()
    check("a rolling shutter moves the outer rows most", 0 < 2 * middle < outer, f"{middle:.4f} in the middle, {outer:.4f} outside")
    without, exact = (difference(pair, flow, truth, outside) for flow in flows)
    check("and its flow follows them", exact < 0.93 * without, f"difference {exact:.4f}, by the flow of frames at once {without:.4f}")


def apart(losses, others):
    return max(abs(a / b - 1) for a, b in zip(losses, others))


def on_device(device, losses):
    """Drawing ahead on a stream of its own, steps in bf16 as one graph: the same way as on the CPU, scene by scene."""
    torch.manual_seed(12)
    worst, drawer = 0, Drawer(scenes(12, device), uses=3)
    for _ in range(9):
        drawer.refill()
        drawer.draw_ahead()
        pair, truth, flow, _ = drawer.batch
        mean = (pair.mean(1) - truth).abs().mean().item()
        worst = max(worst, difference(pair, flow, truth) / mean)
    check(f"scenes drawn ahead on {device} have their flow", worst < 0.5, f"{worst:.2f} of the mean of both")
    torch.manual_seed(10)
    batch = [v.to(device) for v in scenes(4).draw()]
    for graph in (False, True):
        # A graph is warmed up by steps with rate 0, which move the moments: its losses are compared with a wider margin.
        found = train(batch, REPEATED, torch.bfloat16, graph)[1]
        far = apart(found, losses)
        check(f"steps on {device}{' as one graph' if graph else ''} go the same way", far < (4 if graph else 1) * APART,
              f"losses at most {far:.1%} apart")


def details_vanish():
    """A ramp has no details: of its pyramid only the rest is left, away from borders."""
    ramp = torch.arange(64.0).expand(1, 3, 64, 64)
    *levels, _ = pyramid(ramp + 2 * ramp.transpose(-1, -2))
    most = max(level[..., 8:-8, 8:-8].abs().max().item() for level in levels[:2])
    check("a ramp has no details", most < 1e-3, f"at most {most:.4f} of 3 a pixel")


def film():
    """Two shots of texture that moves by 3 px a frame, with a cut between, as clips.py keeps them; one more is held out."""
    torch.manual_seed(14)
    textures = (torch.nn.functional.interpolate(torch.rand(2, 3, 5, 10), scale_factor=20, mode="bicubic").clamp(0, 1) * 255).byte()
    frames = [textures[i][:, :, 3 * k:3 * k + 100].permute(1, 2, 0).numpy() for i in range(2) for k in range(12)]
    return np.stack(frames)


def learns_from_clips(folder):
    """A film is cut where it is; crops are of three frames in a row; where nobody knows the flow it is not asked for."""
    frames, kept = film(), folder / "clips"
    found = shots(frames)
    check("a film is cut into its shots", found == [(0, 12), (12, 24)], f"{found}")
    (kept / "held-out").mkdir(parents=True)
    np.save(kept / "mine-00000.npy", frames[:12])
    np.save(kept / "held-out" / "mine-00012.npy", frames[12:])
    clips = Clips(kept, 64, 4, torch.device("cpu"))
    pair, truth, flow, t = clips.draw()
    moved = [(pair[:, i, :, 8:-8, 8:-8] - truth[:, :, 8:-8, 8 + by:-8 + by or None]).abs().mean().item() for i, by in ((0, -3), (0, 3), (1, 3), (1, -3))]
    far = min(moved[0], moved[1]) + min(moved[2], moved[3])
    check("crops of clips are of three frames in a row", far < 1e-6 and bool(flow.isnan().all()) and bool((t == 0.5).all()), f"{far:.1e} apart")
    torch.manual_seed(15)
    batch = Mixed(scenes(4), clips).draw()
    drawn = [v[:4].clone() for v in batch]
    errors = [train(part, 1)[0].stats[2].item() for part in (batch, drawn)]
    check("the flow is asked for where it is known alone", abs(errors[0] / errors[1] - 1) < 1e-3, f"errors {errors[0]:.4f} and {errors[1]:.4f}")
    turns = turned(batch, True, True, True, True)
    check("clips are turned as scenes are", bool(turns[2][4:].isnan().all()) and bool(turns[2][:4].isfinite().all()), "flows known and not")
    (folder / "film.mp4").write_bytes(b"none")
    try:
        clips_main(["--out", str(folder / "none"), str(folder / "film.mp4")])
        said = ""
    except SystemExit as end:
        said = str(end.code)
    check("a film of unknown licence is refused", "not one of the films" in said, said)
    return kept


def low_precision(batch, losses):
    """The steps as a GPU takes them: convolutions in bf16 with a copy of the weights."""
    if not hasattr(torch, "_foreach_copy_"):
        print(f"skipped: steps in bf16 need a PyTorch newer than {torch.__version__}")
        return
    _, low = train(batch, REPEATED, torch.bfloat16)
    far = apart(low, losses)
    check("steps in bf16 go the same way", far < APART, f"losses at most {far:.1%} apart")


def widens(trainee, batch):
    """A wider network makes the same pictures at first, and then learns with what was added too."""
    pair, _, _, t = batch
    wide = IFNet(WIDER)
    wide.load_state_dict(widened(trainee.averaged().state_dict(), WIDER))
    with torch.no_grad():
        far = max((a - b).abs().max().item() for old, new in zip(trainee.averaged()(pair, t), wide(pair, t)) for a, b in zip(old, new))
    check("a widened network makes the same pictures", far < 1e-4, f"pictures, flows and masks of all blocks at most {far:.1e} apart")
    torch.manual_seed(7)
    learning = Trainee("selftest", WIDER, 5e-4, batch[0].device, wide.state_dict())
    learning.prepare(batch, False)
    before = [p.detach().clone() for p in learning.parameters]
    losses = []
    for _ in range(2 * REPEATED):
        learning.step(1, 0.01)
        losses.append(learning.stats[0].item())
    # What counts the last of the channels that were added, or is counted for it.
    still = sum(torch.equal(p[-1], q[-1]) for p, q in zip(before, learning.parameters) if p.dim() > 1)
    check("and learns with all its channels", still == 0 and losses[-1] < losses[1], f"{still} tensors as they were, loss {losses[1]:.4f} to {losses[-1]:.4f}")
    try:
        widened(wide.state_dict(), WIDTHS)
        narrowed = "made"
    except ValueError as error:
        narrowed = str(error)
    check("a network is not made narrower", "too wide" in narrowed, narrowed)


def goes_on(folder, device):
    """The program itself: a run, the same again, resumed, another begun with its weights, and what it refuses."""
    program = [sys.executable, str(pathlib.Path(__file__).with_name("train.py")), "--device", str(device), "--threads", "1", "--networks", "t=16/16/16/16/16",
               "--phases", "64x2:1", "--textures", "20", "--texture-side", "96", "--masks", "8", "--held-out", "2"]

    def run(out, *more):
        done = subprocess.run([*program, "--out", str(folder / out), *more], capture_output=True, text=True)
        check(f"train.py {' '.join(more[:1])} ends well", done.returncode == 0, done.stderr.strip().splitlines()[-1] if done.returncode else out)
        return done.stdout, folder / out / "t.safetensors"

    def refuses(what, word, *more):
        """In this process: another one would spend its time on starting PyTorch."""
        said, out = io.StringIO(), folder / "refused"
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = train_main([*program[2:], "--out", str(out), *more])
            except SystemExit as end:
                code = end.code
        error = code if isinstance(code, str) else (said.getvalue().strip().splitlines() or [""])[-1]
        check(f"train.py refuses {what}", code != 0 and word in error and not (out / "t.safetensors").exists(), error)

    _, first = run("first", "--save-state", "--steps", "3")
    header = read_header(first)
    check("a run says its steps", header["slomod.step"] == "3" and "slomod.steps_before" not in header, header["slomod.step"])
    if device.type == "cpu":
        _, again = run("again", "--steps", "3")
        same = first.read_bytes() == again.read_bytes()
        check("the same seed gives the same file", same, f"{first.stat().st_size} bytes, by the program in two processes")
    said, _ = run("first", "--resume", "--steps", "5")
    check("a resumed run goes on", "goes on at step 3" in said and read_header(first)["slomod.step"] == "5", "3 steps, then 2")
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    for more in (("--init", str(first.parent), "--steps", "2", "--save-state"), ("--resume", "--steps", "3")):
        header = read_header(run("second", *more)[1])
        check("weights say what they began with", (header["slomod.steps_before"], header["slomod.init_sha256"]) == ("5", digest),
              f"{header['slomod.steps_before']} steps before {header['slomod.step']}")
    (folder / "narrow").mkdir()
    (folder / "narrow" / "starter.safetensors").write_bytes(first.read_bytes())
    wider = f"standard={'/'.join(map(str, WIDER))}"
    said, file = run("wider", "--networks", wider, "--init", str(folder / "narrow"), "--steps", "1")
    header = read_header(file.with_name("standard.safetensors"))
    check("a wider network starts from a narrower one's weights", "starter.safetensors, widened" in said and
          (header["slomod.widths"], header["slomod.init_sha256"]) == (",".join(map(str, WIDER)), digest), header["slomod.widths"])
    clips = learns_from_clips(folder)
    header = read_header(run("clips", "--clips", str(clips), "--phases", "64x4:1", "--steps", "2")[1])
    check("weights say which films they are of", header["slomod.data"].endswith("; films: shots of the trainer's own"), header["slomod.data"])
    refuses("clips that are not there", "--clips", "--clips", str(folder / "nowhere"))
    test_set = folder / "triplets" / "scene"
    test_set.mkdir(parents=True)
    for name in ("frame10.png", "frame11.png", "gt.png"):
        Image.new("RGB", (64, 64)).save(test_set / name)
    nowhere = str(folder / "nowhere")
    refuses("a folder without pictures", "--photos", "--photos", nowhere)
    refuses("to learn from a test set", "never trained on", "--photos", str(test_set))
    refuses("weights that are not there", "--init", "--init", nowhere)
    refuses("triplets that are not there", "--triplets", "--triplets", nowhere)
    refuses("to resume nothing", "--save-state", "--resume")
    refuses("a network that it does not know", "none of", "--networks", "startr")
    refuses("a run that is over before its first step", "nothing is left", "--seconds", "1")


def same_picture(slomod, file, folder, what):
    torch.manual_seed(9)
    pair = scenes(2).draw()[0][1]
    wide = torch.nn.functional.interpolate(pair, size=(100, 150), mode="bicubic", align_corners=False).clamp(0, 1)
    names = [folder / "img0.png", folder / "img1.png"]
    for image, name in zip(wide, names):
        Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(name)
    with torch.no_grad():
        ours = interpolate(read_network(file).eval(), *(read_picture(name, "cpu") for name in names), 0.3)
    ours = (ours * 255).round().permute(1, 2, 0).numpy()
    out = folder / "between.png"
    subprocess.run([slomod, "interpolate", *map(str, names), "--timestep", "0.3", "--output", str(out), "--model", str(file),
                    "--scale", "1", "--refine", "false", "--device", "cpu", "--overwrite"], check=True, stdout=subprocess.DEVNULL)
    difference = np.abs(np.asarray(Image.open(out).convert("RGB")).astype(float) - ours)
    check(f"slomod makes the same picture{what}", difference.mean() <= MEAN_TOLERANCE and difference.max() <= MAX_TOLERANCE,
          f"levels of 255: mean {difference.mean():.4f}, most {difference.max():.0f}")


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--slomod", type=pathlib.Path, help="program to compare with")
    ap.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cuda: also what only a GPU does")
    args = ap.parse_args()
    torch.set_num_threads(1)
    flow_is_exact("")
    flow_is_exact(", with a rolling shutter too", rolling_every=1)
    far_and_coded()
    shutter_rolls()
    used_again()
    details_vanish()
    torch.manual_seed(10)
    batch = scenes(4).draw()
    trainee, losses = train(batch, STEPS)
    check("a few steps lower the loss", losses[-1] < 0.8 * losses[0], f"{losses[0]:.4f} to {losses[-1]:.4f}")
    first, again = train(batch, REPEATED)[0], train(batch, REPEATED)[0]
    same = all(torch.equal(p, q) for p, q in zip(first.average, again.average))
    check("the same seed gives the same weights", same, f"{len(again.average)} tensors")
    widens(trainee, batch)
    low_precision(batch, losses)
    if args.device.type == "cuda":
        on_device(args.device, losses)
    else:
        print("skipped: what only a GPU does (--device cuda)")
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "selftest.safetensors"
        trainee.export(file, 7, data(["astronaut", "clip_07.5s", "mine"]))
        header = read_header(file)
        said = {"slomod.version": "4.26", "slomod.layout": "RIFE v4.26", "slomod.widths": "16,16,16,16,16", "slomod.step": str(STEPS),
                "slomod.pyramid": "0:16,1:16,2:8,3:4,3:2,4:1", "slomod.seed": "7", "slomod.license": "MIT",
                "slomod.data": "drawn scenes; textures: procedural, public-domain and CC0 pictures of scikit-image, "
                "a clip of Intel IoT DevKit (CC BY 4.0), pictures of the trainer's own (1, such as mine)"}
        check("the header says what it is", header == said, header["slomod.layout"])
        close = all(torch.allclose(p, q, atol=1e-3, rtol=1e-3) for p, q in zip(trainee.average, read_network(file).parameters()))
        check("the file holds the averaged weights", close, "in f16")
        goes_on(pathlib.Path(folder), args.device)
        if args.slomod:
            same_picture(args.slomod.resolve(), file, pathlib.Path(folder), "")
            starter = pathlib.Path(__file__).parent.parent / "models/starter.safetensors"
            same_picture(args.slomod.resolve(), starter, pathlib.Path(folder), " with the starter's flows")
        else:
            print("skipped: no slomod program given (--slomod PATH)")


if __name__ == "__main__":
    main()
