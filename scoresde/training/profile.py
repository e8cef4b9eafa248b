"""The time of each part of a training step, and the share of the speed of matrix products that it reaches."""

import time
import timeit
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from scoresde.files import write_json
from scoresde.model import device_of
from scoresde.training.step import Step, Unprofiled, reseed

FILE = "profile.json"
_WARM_UP, _STEPS = 5, 100  # steps that are ignored (memory is allocated, code compiled), and steps that are timed
_PARTS = ("data", "forward", "backward", "optimizer", "average", "logging", "evaluation", "checkpoint")
_REPEATS = 8  # of the matrix product


class Profile(Unprofiled):
    """Times the parts of a few steps; then writes profile.json to the run folder and prints it as a table.

    On CUDA it synchronizes at every mark, so that each part gets its own time; that costs a little.

    Args:
        run: the folder.
        device: of the model.
        dtype: half precision of the network's arithmetic; None for float32.
    """

    def __init__(self, run: Path, device: torch.device, dtype: torch.dtype | None) -> None:
        self._run, self._device, self._dtype = run, device, dtype or torch.float32
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._steps, self._flops, self._last = -_WARM_UP, 0.0, 0.0

    def mark(self, what: str) -> None:
        _wait_for(self._device)
        now = time.perf_counter()
        self._seconds[what] += now - self._last
        self._last = now

    def count(self, step: Step, k: int) -> None:
        self._flops = flops(step, k)

    def before_step(self, step: Step) -> None:
        if self._steps == 0:
            self._seconds.clear()
        if self._steps == _STEPS:
            self.finish(step)
        self._steps += 1
        self._last = time.perf_counter()

    def finish(self, step: Step) -> None:
        step.profile = Unprofiled()
        if not self._seconds:
            return
        steps = self._steps if self._steps > 0 else self._steps + _WARM_UP  # the warm-up, if there was nothing else
        seconds = {name: self._seconds[name] / steps for name in _PARTS if name in self._seconds}
        rate = self._flops / (seconds["forward"] + seconds["backward"])
        peak = matmul_peak(self._device, self._dtype)
        content: dict[str, Any] = {
            "device": torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "arithmetic": str(self._dtype).removeprefix("torch."),
            "batch_size": step.batch_size,
            "steps": steps,
            "seconds_per_step": seconds,
            "flop_per_step": self._flops,
            "flop_per_second": rate,
            "matmul_peak": peak,
            "share_of_peak": rate / peak,
        }
        write_json(self._run / FILE, content)
        tqdm.write(table(content))


def flops(step: Step, k: int) -> float:
    """Floating-point operations of the matrix products and convolutions of step k, forward and backward.

    Counted on one sample and multiplied by the batch size. The state of the training does not change.
    """
    batch, _, seeds = step.draw(k, step.position)
    model, device = step.model, device_of(step.model)
    buffers = [(b, b.clone()) for b in model.buffers()]
    reseed(device, seeds[0])
    with FlopCounterMode(display=False) as counter:
        step.loss(model, batch.part(range(1))).loss.mean().backward()  # type: ignore[no-untyped-call]
    step.optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    return float(counter.get_total_flops() * step.batch_size)


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second that this device reaches in a large square matrix product; the best of 8."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.full((size, size), 1e-3, device=device, dtype=dtype)

    def product() -> None:
        a @ a
        _wait_for(device)

    return 2 * size**3 / min(timeit.repeat(product, number=1, repeat=_REPEATS))


def _wait_for(device: torch.device) -> None:
    torch.get_device_module(device).synchronize(device)


def table(content: dict[str, Any]) -> str:
    """The contents of profile.json for a terminal."""
    seconds: dict[str, float] = content["seconds_per_step"]
    total = sum(seconds.values())
    where = content["device"] if content["device"] != "cpu" else f"cpu, threads: {content['threads']}"
    rate, peak, share = content["flop_per_second"] / 1e12, content["matmul_peak"] / 1e12, content["share_of_peak"]
    lines = [
        f"profile of {content['steps']} steps, {content['batch_size']} items each, {content['arithmetic']} on {where}",
        *(f"  {name:<11}{1e3 * s:10.3f} ms  {s / total:6.1%}" for name, s in seconds.items()),
        f"  {'all':<11}{1e3 * total:10.3f} ms  {content['batch_size'] / total:,.0f} items/s",
        f"  {content['flop_per_step'] / 1e9:.3g} GFLOP a step; forward and backward run at {rate:.3g} TFLOP/s,",
        f"  {share:.1%} of the {peak:.3g} TFLOP/s that a large matrix product reaches here",
    ]
    return "\n".join(lines)
