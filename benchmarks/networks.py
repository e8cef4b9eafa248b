"""What DDPM++ and NCSN++ cost: `python benchmarks/networks.py`, or `--edm FOLDER` with a checkout of NVlabs/edm.

One step is forward, backward, fused Adam and the average of the weights, on images of 32x32x3, batch 16, with 32
channels, multipliers 1-2-2, attention at 16x16, drop-out 0.1, on one thread. Ours and each other network run in turn on
the same data; a ratio is that of their processor times in one pair of steps, with the quartiles over all pairs.

- edm: the same architectures of the code of Karras et al., if a folder is given.
- diffusers: its UNet2DModel of as many blocks and channels, if it is installed; it has fewer operations.
- bare: forward and backward of all convolutions of ours alone, on tensors in the memory layout `NCHW` that is torch's
  default, and in `NHWC`, which ours chooses. The ratio is the share of ours that they would take: the FLOP/s that the
  network reaches in its convolutions, as a part of those that they reach by themselves.
- memory: the most that a process of its own has resident, above what it had before the first step, in MiB.

Results go to benchmarks/results/.
"""

import argparse
import importlib.util
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import save
from torch import Tensor, nn

from scoresde.nets import NCSNpp

BATCH, EVENT, CHANNELS, MULTIPLIERS = 16, (3, 32, 32), 32, (1, 2, 2)
OPTIONS: dict[str, dict[str, Any]] = {
    "ddpmpp": {"noise": "positional", "noise_scale": 250.0, "fir": False, "progressive_input": "none"},
    "ncsnpp": {},
}
Step = Callable[[], object]


def ours(kind: str, blocks: int, **changes: Any) -> nn.Module:
    return NCSNpp(EVENT, CHANNELS, MULTIPLIERS, blocks, (1,), **OPTIONS[kind], **changes)


def edm(folder: Path, kind: str, blocks: int) -> nn.Module:
    sys.path.insert(0, str(folder))
    from training.networks import SongUNet

    options: dict[str, Any] = {"model_channels": CHANNELS, "channel_mult": list(MULTIPLIERS), "num_blocks": blocks}
    if kind == "ncsnpp":
        options |= {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
        options |= {"resample_filter": [1, 3, 3, 1]}
    net = SongUNet(EVENT[1], EVENT[0], EVENT[0], attn_resolutions=[16], **options)
    return Called(net, lambda net, x, c: net(x, c, None))


def diffusers(kind: str, blocks: int) -> nn.Module:
    from diffusers import UNet2DModel

    widths = tuple(CHANNELS * m for m in MULTIPLIERS)
    net = UNet2DModel(
        block_out_channels=widths,
        layers_per_block=blocks,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=None,
        dropout=0.1,
    )
    return Called(net, lambda net, x, c: net(x, c).sample)


class Called(nn.Module):
    """A network of other code, called like ours."""

    def __init__(self, net: nn.Module, call: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.call = net, call

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.call(self.net, x, c)


def training_step(net: nn.Module) -> Step:
    torch.manual_seed(0)
    weights = list(net.train().parameters())
    averages = [w.detach().clone() for w in weights]
    optimizer = torch.optim.Adam(weights, lr=1e-4, fused=True)
    x, c, y = torch.randn(BATCH, *EVENT), torch.rand(BATCH), torch.randn(BATCH, *EVENT)

    def step() -> None:
        ((net(x, c) - y) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(averages, [w.detach() for w in weights], 1e-3)

    return step


def bare_convolutions(net: nn.Module, layout: torch.memory_format) -> tuple[Step, float]:
    """All convolutions of a network, forward and backward, on random images; and their FLOP per image."""
    shapes: list[tuple[nn.Conv2d, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda conv, given, out: shapes.append((conv, given[0])))
        for module in net.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        net.eval()(torch.randn(BATCH, *EVENT), torch.rand(BATCH))
    for hook in hooks:
        hook.remove()
    inputs = [torch.randn_like(x).contiguous(memory_format=layout).requires_grad_() for _, x in shapes]
    inputs[0].requires_grad_(False)  # the image
    with torch.no_grad():
        made = [conv(x) for (conv, _), x in zip(shapes, inputs, strict=True)]
    outputs = [torch.randn_like(y).contiguous(memory_format=layout) for y in made]
    flop = sum(
        (6 if x.requires_grad else 4) * conv.weight.numel() * y[0, 0].numel()
        for (conv, _), x, y in zip(shapes, inputs, outputs, strict=True)
    )

    def step() -> None:
        for (conv, _), x, y in zip(shapes, inputs, outputs, strict=True):
            wanted = [p for p in (x, conv.weight, conv.bias) if p is not None and p.requires_grad]
            torch.autograd.grad(conv(x), wanted, y)

    return step, float(flop)


def timed(action: Step) -> float:
    start = time.thread_time()  # of this thread alone, so that other programs on the machine count less
    action()
    return time.thread_time() - start


def compare(steps: dict[str, Step], pairs: int) -> dict[str, dict[str, Any]]:
    """Images per second of each step, and the time of each over that of `ours`."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(pairs + 2):
        for name, step in steps.items():
            seconds[name].append(timed(step))
    seconds = {name: times[2:] for name, times in seconds.items()}  # the first ones warm up
    rows = {}
    for name, times in seconds.items():
        ratios = [t / o for t, o in zip(times, seconds["ours"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows[name] = {
            "images_per_second": BATCH / statistics.median(times),
            "time_over_ours": middle,
            "quartiles": [low, high],
        }
    return rows


def memory(key: str) -> int:
    """VmRSS or VmHWM of this process in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def peak(make: Callable[[], nn.Module], pipe: Any) -> None:
    torch.set_num_threads(1)
    step = training_step(make())
    before = memory("VmRSS")
    for _ in range(4):
        step()
    pipe.send((memory("VmHWM") - before) / 1024)


def peak_memory(make: Callable[[], nn.Module]) -> float:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=peak, args=(make, there))
    process.start()
    process.join()
    return float(here.recv()) if here.poll() else float("nan")


def makers(kind: str, blocks: int, folder: Path | None) -> dict[str, Callable[[], nn.Module]]:
    """The networks that are compared."""
    made: dict[str, Callable[[], nn.Module]] = {"ours": partial(ours, kind, blocks)}
    if folder:
        made["edm"] = partial(edm, folder, kind, blocks)
    if importlib.util.find_spec("diffusers"):
        made["diffusers"] = partial(diffusers, kind, blocks)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=20, help="steps of each network in each row")
    parser.add_argument("--edm", type=Path, help="a checkout of NVlabs/edm, whose networks are run beside ours")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    print("network  blocks  code       images/s  time over ours  quartiles       MiB   GFLOP/s in convolutions")
    every = {(kind, blocks): makers(kind, blocks, args.edm) for kind in OPTIONS for blocks in (1, 2)}
    # before this process has computed anything, for what it has freed its children would find and use
    every_peak = {row: {name: peak_memory(make) for name, make in made.items()} for row, made in every.items()}
    for (kind, blocks), made in every.items():
        peaks = every_peak[kind, blocks]
        steps = {name: training_step(make()) for name, make in made.items()}
        flop, plain = 0.0, ours(kind, blocks, rescale=False, dropout=0.0)  # which calls all convolutions as they are
        for layout in ("NCHW", "NHWC"):
            order = torch.channels_last if layout == "NHWC" else torch.contiguous_format
            steps[f"bare {layout}"], flop = bare_convolutions(plain, order)
        for name, row in compare(steps, args.pairs).items():
            row = {"network": kind, "blocks": blocks, "code": name, **row, "peak_mib": peaks.get(name)}
            low, high = row["quartiles"]
            text = f"{kind:8} {blocks:6}  {name:10} {row['images_per_second']:8.1f}  {row['time_over_ours']:14.3f}"
            text += f"  {low:.3f} to {high:.3f} " + (f"{peaks[name]:5.0f}" if name in peaks else "     ")
            if name == "ours" or name.startswith("bare"):
                row["conv_gflop_per_second"] = flop * row["images_per_second"] / 1e9
                text += f"  {row['conv_gflop_per_second']:7.1f}"
            print(text, flush=True)
            rows.append(row)
    print(f"written to {save('networks', {'pairs': args.pairs, 'rows': rows})}")


if __name__ == "__main__":
    main()
