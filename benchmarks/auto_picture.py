"""Draws docs/auto.png, errors of `auto` and of ten other samplers: `python benchmarks/auto_picture.py RUN`.

Medians over n starts, on two problems with exact scores, members of seed 1 of their families, and on a trained run. An
endpoint is compared with the exact solution at noise zero from the same start, in float64; on the run with that of its
own ODE, by `rk4` in 200 steps: at noise zero for `auto`, which ends there, and at t_min for the others.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from auto import MAKE, problem
from matplotlib.figure import Figure
from peers import OnLaw
from PIL import Image
from record import save
from solvers import option
from torch import Tensor

from scoresde import VPSDE, Sampler, grid, load, solver
from scoresde.comparison.peer_solver import PREFIX, PeerSolver, peer
from scoresde.evaluations import count_evaluations
from scoresde.figures.style import INK, SAMPLES, finished, panels, plain
from scoresde.model import Model
from scoresde.noise import Noise

BUDGETS = (5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)
PROBLEMS = {"narrow rings, VP": ("rings", "vp"), "patches of digits, EDM": ("patches", "edm")}
AUTO = {"auto, grid from a pilot": (0, (3, 1.2)), "auto": "-"}
Draw = Callable[[str, int], tuple[Tensor, float]]  # distances by name and budget, and the evaluations


class Other(NamedTuple):
    """A solver and grid of ours, or a peer by its name in `compare`, and how it is drawn."""

    solver: str
    grid: str
    colour: str
    marker: str
    cost: int = 1


OTHERS = {
    "DDIM": Other("ddim", "noise_share", "#7A7A7A", "o"),
    "Heun": Other("heun", "noise_share", "#7A7A7A", "s", 2),
    "DEIS": Other("deis", "noise_share", "#E69F00", "o"),
    "iPNDM": Other("ipndm", "noise_share", "#E69F00", "s"),
    "velocity_3": Other("velocity_3", "noise_share", "#CC79A7", "s"),
    "UniPC-3": Other("unipc_3", "lambda", "#CC79A7", "o"),
    "DPM-Solver++(3M)": Other("dpmpp_3m", "lambda", "#D55E00", "s"),
    "DPM-Solver++(2M), diffusers": Other("peer:dpmpp_2m_karras", "", "#D55E00", "o"),
    "vAB-4, azula": Other("peer:azula_vab_4_rectified", "", "#009E73", "o"),
    "zAB-3, azula": Other("peer:azula_zab_3_vp", "", "#009E73", "s"),
}


def sampler(name: str, model: Model, budget: int) -> Sampler:
    if name in AUTO:
        return MAKE[name](model, budget)
    own = OTHERS[name]
    if own.solver.startswith(PREFIX):
        return Sampler(PeerSolver(own.solver.removeprefix(PREFIX)), steps=budget)
    return Sampler(option("solver", own.solver), option("grid", own.grid), budget // own.cost)


def end(model: Model, x: Tensor, sampler: Sampler) -> Tensor:
    *_, (_, x) = sampler.path(model, x, Noise(0))
    return x


def on_problem(family: str, path: str, n: int) -> Draw:
    model, references = problem(family, path, 1, n)
    sde, level = model.sde, model.sde.at(model.sde.t_start)

    def draw(name: str, budget: int) -> tuple[Tensor, float]:
        if name in OTHERS and OTHERS[name].solver.startswith(PREFIX):
            theirs = peer(OTHERS[name].solver.removeprefix(PREFIX), sde)
            drawn = OnLaw(theirs)(references.law, references.z, budget)
            return references.distances(*drawn[:3]), drawn.calls
        own = sampler(name, model, budget)
        with count_evaluations() as spent:
            x = end(model, references.z * sde.prior_std, own)
        return references.distances(x, sde.prior_std / level.alpha, level.sigma / level.alpha), spent.samples / n

    return draw


def on_run(folder: str, n: int) -> Draw:
    model = load(folder).model.eval()
    x = Noise(0).normal("prior", 0, (n, *model.event_shape), model.device) * model.sde.prior_std
    fine = Sampler(solver("rk4"), grid("lambda"), 200)
    clean, denoised = (end(model.under(VPSDE(t_min=t)), x, fine) for t in (model.sde.t_train, model.sde.t_min))

    def draw(name: str, budget: int) -> tuple[Tensor, float]:
        own = sampler(name, model, budget)
        with count_evaluations() as spent:
            found = end(model, x, own)
        return (found - (clean if name in AUTO else denoised)).flatten(1).norm(dim=1), spent.samples / n

    return draw


def curves(draw: Draw) -> dict[str, list[tuple[float, float]]]:
    """For each sampler its points (evaluations, median error)."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name in (*OTHERS, *AUTO):
        points = [(spent, float(apart.median())) for apart, spent in (draw(name, budget) for budget in BUDGETS)]
        found[name] = sorted({spent: error for spent, error in points if 5 <= spent <= 50}.items())
        print(name, [(round(spent), float(f"{error:.3g}")) for spent, error in found[name]], flush=True)
    return found


def picture(found: dict[str, dict[str, list[tuple[float, float]]]]) -> Figure:
    figure, axes = panels(1, len(found), 2.6, 2.6, margins=(0, 1.35), dpi=160)
    for ax, (title, lines) in zip(axes.ravel(), found.items(), strict=True):
        for name, points in lines.items():
            if name in AUTO:
                ax.loglog(*zip(*points, strict=True), color=SAMPLES, lw=3, ls=AUTO[name], label=name, zorder=3)
            else:
                _, _, colour, marker, _ = OTHERS[name]
                ax.loglog(*zip(*points, strict=True), color=colour, marker=marker, ms=3.5, lw=1, label=name)
        ax.set_ylim(top=4 * lines["DDIM"][0][1])
        ax.set_title(title, fontsize=10.5, color=INK)
        ax.set_xticks([5, 10, 20, 50], ["5", "10", "20", "50"])
        ax.set_xlabel("evaluations per sample", fontsize=10, color=INK)
        ax.minorticks_off()
        plain(ax)
        ax.tick_params(labelsize=10)
    axes[0, 0].set_ylabel("median endpoint error", fontsize=10, color=INK)
    handles, names = axes[0, 0].get_legend_handles_labels()
    order = [*range(len(names) - 1, len(OTHERS) - 1, -1), *range(len(OTHERS))]
    places = ([handles[i] for i in order], [names[i] for i in order])
    figure.legend(*places, loc="outside lower center", ncols=3, frameon=False, fontsize=10.5, handlelength=2.4)
    return figure


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", help="the folder of a trained run on VP")
    parser.add_argument("--n", type=int, default=128, help="start points; 64 on the run")
    parser.add_argument("--picture", default=str(Path(__file__).parents[1] / "docs" / "auto.png"))
    parser.add_argument("--out", type=Path, help="file of the result")
    a = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {title: curves(on_problem(*where, a.n)) for title, where in PROBLEMS.items()}
    found["U-Net on digits, VP"] = curves(on_run(a.run, min(a.n, 64)))
    finished(picture(found), a.picture, None)
    with Image.open(a.picture) as drawn:  # in 256 colours, a third of the size
        drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(a.picture, optimize=True)
    print(f"written to {a.picture} and {save('auto_picture', {'n': a.n, 'curves': found}, a.out)}")


if __name__ == "__main__":
    main()
