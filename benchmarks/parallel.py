"""What several processes cost and gain: `torchrun --nproc-per-node 2 benchmarks/parallel.py`, one thread each.

Three steps run in turn, each on a network of its own, with the same items a process: one that sums gradients in the
fixed tree, one with `trainer.strategy=ddp`, and one alone in its process, on all items, which
shows what the processes gain. Figures are medians over pairs of wall-clock time, with a 95 % interval of the median.
`--sample` draws samples instead: the processes share out batches that one of them then draws alone.
`--memory` counts the bytes that a process holds of weights and optimizer with `trainer.strategy=fsdp`.
`--table` prints the arithmetic for many GPUs and measures nothing. Results go to benchmarks/results/.
"""

import argparse
import copy
import statistics
import time
from collections import deque
from typing import Any

import torch
from record import save
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scoresde import VPSDE, ScoreModel, nets
from scoresde.loss import DenoisingScoreMatching
from scoresde.parallel import World, sharing, world
from scoresde.runs.samples import batches
from scoresde.sampling import DDIM, Sampler
from scoresde.training import Trainer
from scoresde.training.batches import Batches
from scoresde.training.ema import Averages
from scoresde.training.fsdp import cut_over
from scoresde.training.settings import Strategy
from scoresde.training.shards import local
from scoresde.training.step import Step

CASES: list[tuple[Any, tuple[int, ...], int]] = [(nets.UNet, (1, 8, 8), 64), (nets.UNet, (3, 32, 32), 16)]
STEPS = 10  # of a sampler
RATIOS = {"exact_over_ddp": "over DDP", "gain_over_one": "one process over these"}
GPUS, PER_GPU = (8, 64, 1024), 64
# of one H100: half of its dense bf16 peak, NVLink within a machine of eight, and its 400 Gbit/s link to others
FLOPS, INSIDE, BETWEEN = 0.5 * 989e12, 450e9, 50e9


def step(net: nn.Module, data: Tensor, batch: int, among: World, strategy: Strategy = "exact") -> Step:
    model = ScoreModel(copy.deepcopy(net), VPSDE())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    micro = batch // among.size
    settings = Trainer(batch_size=batch, micro_batch=micro, warmup=0, schedule="constant", strategy=strategy)
    batches = Batches(data, 0, data.device, world=among)
    return Step(model, Averages(model, [0.999]), optimizer, DenoisingScoreMatching(), batches, settings, 0, world=among)


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """The median, and a 95 % interval of it by order statistics."""
    ranked, n = sorted(ratios), len(ratios)
    half = 0.98 * n**0.5
    return statistics.median(ranked), ranked[max(0, int(n / 2 - half))], ranked[min(n - 1, int(n / 2 + half))]


def measure(kind: Any, event: tuple[int, ...], batch: int, pairs: int) -> dict[str, Any]:
    torch.manual_seed(0)
    group, net, data = world(), kind(event).train(), torch.randn(2000, *event)
    exact, averaged = step(net, data, batch, group), step(net, data, batch, group, "ddp")
    alone = step(net, data, batch, World())
    seconds: dict[str, list[float]] = {"exact": [], "ddp": [], "alone": []}
    for k in range(pairs + 3):
        for name, one in (("exact", exact), ("ddp", averaged), ("alone", alone)):
            group.meet()
            begin = time.perf_counter()
            if name != "alone" or group.first:
                one(k)
            group.meet()
            seconds[name].append(time.perf_counter() - begin)
    e, d, a = (seconds[name][3:] for name in ("exact", "ddp", "alone"))
    return {
        "net": kind.__name__, "weights": sum(p.numel() for p in net.parameters()), "event": list(event), "batch": batch,
        "processes": group.size, "pairs": pairs, "ms": 1e3 * statistics.median(e),
        "exact_over_ddp": interval([x / y for x, y in zip(e, d, strict=True)]),
        "gain_over_one": interval([y / x for x, y in zip(e, a, strict=True)]),
    }  # fmt: skip


def sampling(kind: Any, event: tuple[int, ...], batch: int, pairs: int) -> dict[str, Any]:
    """Two batches for each process, by one process and by all."""
    torch.manual_seed(0)
    model, group, sampler = ScoreModel(kind(event), VPSDE()), world(), Sampler(DDIM(), steps=STEPS)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for k in range(pairs + 1):
        for all_of_them in (True, False):
            group.meet()
            begin = time.perf_counter()
            if all_of_them or group.first:
                with sharing(group if all_of_them else World()):
                    deque(batches(sampler, model, event, 2 * batch * group.size, k, batch), 0)
            group.meet()
            seconds[all_of_them].append(time.perf_counter() - begin)
    shared, alone = seconds[True][1:], seconds[False][1:]
    return {
        "net": kind.__name__, "event": list(event), "batch": batch, "steps": STEPS, "processes": group.size,
        "pairs": pairs, "ms": 1e3 * statistics.median(shared),
        "gain_over_one": interval([y / x for x, y in zip(shared, alone, strict=True)]),
    }  # fmt: skip


def memory(kind: Any, event: tuple[int, ...]) -> None:
    """Print the bytes in each process after one step, and those of one alone."""
    torch.manual_seed(0)
    group, data = world(), torch.randn(4 * world().size, *event)
    model, loss = ScoreModel(kind(event), VPSDE()), DenoisingScoreMatching()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    alone = 3 * sum(p.nbytes for p in model.parameters())
    settings = Trainer(batch_size=group.size, micro_batch=1, strategy="fsdp")
    cut, batches = cut_over(group, settings, loss, model, optimizer), Batches(data, 0, data.device, world=group)
    Step(model, Averages(model, [0.999]), optimizer, loss, batches, settings, 0, world=group, shares=cut)(0)
    states = [t for slots in optimizer.state.values() for t in slots.values()]
    held = torch.tensor([sum(local(t).nbytes for t in [*model.parameters(), *states])])
    every = [f"{n:,}" for n in group.gather(held).tolist()]
    if group.first:
        print(f"{kind.__name__} {list(event)}: {', '.join(every)} bytes in {group.size} processes, {alone:,} in one")


def table() -> None:
    """Bytes that each GPU sends in a step, 2 (1 - 1/W) of its gradient, and their time, against that of the step."""
    print(f"network     weights  GFLOP/item  step ms   {'   '.join(f'{w:5} GPUs: MB, ms, share' for w in GPUS)}")
    for kind in (nets.UNet, nets.NCSNpp, nets.DiT):
        net = kind((3, 32, 32))
        with FlopCounterMode(display=False) as counter:
            net(torch.zeros(1, 3, 32, 32), torch.zeros(1)).sum().backward()
        flop, weights = counter.get_total_flops(), sum(p.numel() for p in net.parameters())
        compute, cells = PER_GPU * flop / FLOPS, []
        for count in GPUS:
            size = 2 * 4 * weights * (1 - 1 / count)
            wire = size / (INSIDE if count <= 8 else BETWEEN)
            cells.append(f"{size / 1e6:9.1f} {1e3 * wire:8.2f} {wire / compute:6.0%}")
        print(f"{kind.__name__:10} {weights:9,} {flop / 1e9:10.3g} {1e3 * compute:9.2f}  {'   '.join(cells)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=200, help="steps of each kind")
    parser.add_argument("--sample", action="store_true", help="draw samples instead of training")
    parser.add_argument("--memory", action="store_true", help="count bytes with trainer.strategy=fsdp")
    parser.add_argument("--table", action="store_true", help="print the arithmetic for many GPUs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.memory:
        for kind in (nets.UNet, nets.NCSNpp, nets.DiT):
            memory(kind, (3, 32, 32))
        world().leave()
        return
    if given.table:
        table()
        return
    rows = [(sampling if given.sample else measure)(*case, given.pairs) for case in CASES]
    if world().first:
        for row in rows:
            pairs = [(words, *row[key]) for key, words in RATIOS.items() if key in row]
            found = ["{} {:.3f} ({:.3f} to {:.3f})".format(*pair) for pair in pairs]
            what = f"{row['net']} {row['event']} batch {row['batch']}, {row['processes']} processes"
            print(f"{what}: {row['ms']:.1f} ms, {', '.join(found)}")
        save("parallel-sample" if given.sample else "parallel", {"rows": rows})
    world().leave()


if __name__ == "__main__":
    main()
