"""What a sampling loop costs beside its network: `python benchmarks/sampling_loop.py`.

The figure is (time of the loop - time inside the network) / time inside the network, on one thread; each row is the
median of several runs of 30 steps, after one that is not counted. Bars for fixed grids: with the small U-Net on
(3, 32, 32) at batch 16 0.02 for deterministic solvers, 0.025 for `auto` and 0.03 for stochastic ones, with the MLP 0.10
and 0.25 for stochastic ones. The network is timed around its call, in the same runs.
"""

import argparse
import statistics
import time
from typing import Any

import torch
from record import save
from torch import Tensor, nn

from scoresde import VPSDE, Sampler, ScoreModel
from scoresde.nets import ResidualMLP, UNet
from scoresde.sampling import (
    DDIM,
    AdaptiveRungeKutta,
    Ancestral,
    Auto,
    DPMSolverPP2M,
    EulerMaruyama,
    ExponentialMultistep,
    ExponentialRungeKutta,
    Heun,
    Langevin,
    ReverseDiffusion,
    RungeKutta,
    Solver,
    TorchDiffEq,
)

SOLVERS: dict[str, tuple[Solver, Langevin | None]] = {
    "ddim": (DDIM(), None),
    "dpmpp_2m": (DPMSolverPP2M(), None),
    "unipc_2": (ExponentialMultistep(predictor=2, corrector=3), None),
    "velocity_4": (ExponentialMultistep("velocity", "noise_share", predictor=4), None),
    "heun": (Heun(), None),
    "rk4": (RungeKutta("rk4"), None),
    "dpmpp_3s": (ExponentialRungeKutta("thirds"), None),
    "auto": (Auto(), None),
    "euler_maruyama": (EulerMaruyama(), None),
    "reverse_diffusion": (ReverseDiffusion(), None),
    "ancestral": (Ancestral(), None),
    "sde_dpmpp_2m": (ExponentialMultistep(eta=1.0), None),
    "sa_solver": (ExponentialMultistep(predictor=3, corrector=4, eta=1.0), None),
    "seeds_2": (ExponentialRungeKutta(eta=1.0), None),
    "reverse_diffusion + langevin": (ReverseDiffusion(), Langevin()),
    "adaptive bosh3": (AdaptiveRungeKutta(rtol=1e-2, atol=1e-2), None),
    "torchdiffeq dopri5": (TorchDiffEq(rtol=1e-3, atol=1e-3), None),
}
CASES: list[tuple[str, tuple[int, ...], int, int]] = [
    ("U-Net", (3, 32, 32), 16, 30),
    ("U-Net", (1, 8, 8), 16, 30),
    ("MLP", (2,), 4096, 30),
]


class Timed(nn.Module):
    """A network that keeps account of the time spent inside it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.seconds = net, 0.0

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        start = time.thread_time()
        out: Tensor = self.net(x, c)
        self.seconds += time.thread_time() - start
        return out


def overhead(net: Timed, sampler: Sampler, event: tuple[int, ...], batch: int) -> float:
    model = ScoreModel(net, VPSDE())
    net.seconds, start = 0.0, time.thread_time()
    sampler.sample(model, event, batch, batch_size=batch)
    return (time.thread_time() - start - net.seconds) / net.seconds


def bar(event: tuple[int, ...], solver: Solver, stochastic: bool) -> float | None:
    if solver.adaptive or event == (1, 8, 8):
        return None
    if event == (2,):
        return 0.25 if stochastic else 0.10
    return 0.03 if stochastic else 0.025 if isinstance(solver, Auto) else 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=7, help="runs for each row")
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=list(SOLVERS), metavar="NAME")
    runs, names = (given := parser.parse_args()).runs, given.solvers
    torch.set_num_threads(1)
    print("network        event  batch  solver                         overhead   lowest  highest     bar")
    rows: list[dict[str, Any]] = []
    for kind, event, batch, steps in CASES:
        net = Timed(UNet(event) if kind == "U-Net" else ResidualMLP(event))
        for name, (solver, corrector) in ((name, SOLVERS[name]) for name in names):
            sampler = Sampler(solver, steps=steps, corrector=corrector)
            values = [overhead(net, sampler, event, batch) for _ in range(runs + 1)][1:]
            limit = bar(event, solver, stochastic=getattr(solver, "eta", 0) > 0)
            row = {"net": kind, "event": event, "batch": batch, "solver": name, "overhead": statistics.median(values)}
            rows.append({**row, "lowest": min(values), "highest": max(values), "bar": limit, "runs": runs})
            what = f"{kind:9} {event!s:>12} {batch:6}  {name:29}"
            figures = f"{statistics.median(values):9.4f} {min(values):8.4f} {max(values):8.4f}"
            print(what, figures, f"{limit:7}" if limit else "      -", flush=True)
    print(f"written to {save('sampling_loop', {'rows': rows})}")


if __name__ == "__main__":
    main()
