"""Errors of samplers on trained runs, against their own ODE solved finely."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import peers
import torch
from torch import Tensor

from scoresde import Sampler, grid, load, solver
from scoresde.comparison.peer_solver import denoiser
from scoresde.evaluations import count_evaluations
from scoresde.model import Model
from scoresde.noise import Noise

Make = Callable[[Model, int], Sampler]
FIXED = ("dpmpp_2m", "dpmpp_3m", "unipc_3", "velocity_2", "velocity_3", "deis", "ipndm")
GRIDS = ("lambda", "karras", "noise_share", "time")


def fixed(rule: str, where: str) -> Make:
    return lambda model, steps: Sampler(solver(rule), grid(where), steps)


@torch.no_grad()
def learned(run: str, n: int, budgets: Sequence[int], ours: Mapping[str, Make]) -> dict[str, Any]:
    """Median distances of a trained run's samples to its own ODE solved finely, from the same noise.

    A peer's start may lie a little above ours, which moves its endpoint by about 1e-4.
    """
    model = load(run).model.eval()
    z = Noise(0).normal("prior", 0, (n, *model.event_shape), model.device)
    pool, denoise = peers.deterministic(model.sde), denoiser(model)

    def drawn(sampler: Sampler) -> Tensor:
        *_, (_, x) = sampler.path(model, z * model.sde.prior_std, Noise(0))
        return x

    fine = [drawn(Sampler(solver("rk4"), grid(g), steps=150)) for g in ("lambda", "noise_share")]

    def median(x: Tensor) -> float:
        apart = float((x - fine[0]).flatten(1).norm(dim=1).median())
        return apart if math.isfinite(apart) else math.inf

    def best(draw: Mapping[str, Callable[[], Tensor]]) -> list[Any]:
        found = {}
        for name, call in draw.items():
            with suppress(ValueError, IndexError, RuntimeError), count_evaluations() as spent:
                x = call()
                if spent.samples <= budget * n:
                    found[name] = median(x)
        return min(([value, name] for name, value in found.items()), default=[math.inf, ""])

    rows = []
    for budget in budgets:
        fixed_ones = {f"{rule} {g}": partial(drawn, fixed(rule, g)(model, budget)) for rule, g in product(FIXED, GRIDS)}
        theirs = {name: partial(lambda on, b: on.peer(denoise, z, b).x, on, budget) for name, on in pool.items()}
        own = {name: median(drawn(make(model, budget))) for name, make in ours.items() if name.startswith("auto")}
        row = {"budget": budget, **own, "best fixed": best(fixed_ones), "best peer": best(theirs)}
        rows.append(row)
        print(Path(run).name, row, flush=True)
    return {"run": Path(run).name, "apart": median(fine[1]), "rows": rows}
