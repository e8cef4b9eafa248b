"""Draws the pictures of the concept and sampler pages from exact models: python docs/make_figures.py [name ...].

Nothing is trained; all of them take less than a minute. The pictures of docs/training.md are made by
benchmarks/healthy_training.py.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

import scoresde
from scoresde import sampling
from scoresde.noise import Noise
from scoresde.variance import log_variances

HERE = Path(__file__).parent / "pictures"
INK, FAINT = "#333333", "#C4C4C4"
COLOURS = ("#0072B2", "#D98200", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#555555")


def panels(columns: int, width: float = 4.0, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(columns * width, height), dpi=130, layout="constrained", facecolor="white")
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for ax in axes:
        ax.tick_params(labelsize=8, colors=INK)
        for side, spine in ax.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(FAINT)
    return figure, axes


def line_mixture() -> scoresde.GaussianMixture:
    """Two Gaussians on the line, with weights 0.3 and 0.7."""
    return scoresde.GaussianMixture([0.3, 0.7], [[-1.2], [0.9]], [[[0.03]], [[0.05]]])


def plane_mixture() -> scoresde.GaussianMixture:
    """Three Gaussians in the plane."""
    long = [[0.12, 0.09], [0.09, 0.12]]
    return scoresde.GaussianMixture(
        [0.3, 0.4, 0.3], [[-1.3, 0.8], [0.9, 0.9], [0.2, -1.1]], [[[0.05, 0], [0, 0.05]], long, [[0.2, 0], [0, 0.03]]]
    )


def paths() -> Figure:
    """alpha, sigma and the log signal-to-noise ratio of five SDEs."""
    figure, (left, right) = panels(2)
    sdes = {"VP": scoresde.VPSDE(), "cosine": scoresde.CosineSDE(), "rectified": scoresde.RectifiedSDE()}
    wide = {"VE": scoresde.VESDE(sigma_max=50.0), "EDM": scoresde.EDMSDE()}
    for colour, (name, sde) in zip(COLOURS, (sdes | wide).items(), strict=False):
        t = torch.linspace(1e-3, 1.0, 400, dtype=torch.float64) * sde.T
        if name in sdes:
            left.plot(t / sde.T, sde.alpha(t), color=colour, label=f"{name}: alpha")
            left.plot(t / sde.T, sde.sigma(t), color=colour, linestyle="--", label=f"{name}: sigma")
        right.plot(t / sde.T, sde.lam(t), color=colour, label=name)
    left.set(xlabel="t / T", title="alpha (solid) and sigma (dashed)")
    right.set(xlabel="t / T", title="lambda = log(alpha / sigma)")
    right.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    right.legend(frameon=False, fontsize=8)
    return figure


def trajectories() -> Figure:
    """The marginals of a mixture on the line, with samples of the ODE and of the reverse SDE from the same noise."""
    data, sde, steps, n = line_mixture(), scoresde.VPSDE(), 400, 10
    model = scoresde.ExactModel(data, sde)
    times = torch.linspace(sde.T, sde.t_min, steps + 1, dtype=torch.float64)
    figure, axes = panels(2, 4.4, 3.4)
    x = torch.linspace(-3, 3, 240, dtype=torch.float64)[:, None]
    density = torch.stack([data.log_prob(x, *sde.at(float(t))[:2]).exp() for t in times[::4]], dim=1)
    solvers = {"probability-flow ODE, eta = 0": sampling.Heun(), "reverse SDE, eta = 1": sampling.EulerMaruyama()}
    for ax, (name, solver) in zip(axes, solvers.items(), strict=True):
        noise = Noise(5)
        start = sde.prior_std * noise.normal("prior", 0, (n, 1), "cpu", torch.float64)
        states = [start.clone()]
        with torch.no_grad():
            states += [x.clone() for _, x in solver.integrate(model, times, start, noise)]
        ax.imshow(
            density.sqrt(), extent=(sde.T, sde.t_min, -3, 3), origin="lower", aspect="auto", cmap="Blues", alpha=0.8
        )
        ax.plot(times, torch.cat(states, dim=1).T, color=COLOURS[1], linewidth=0.9)
        ax.set(xlabel="t: noise on the left, data on the right", title=name, ylim=(-3, 3))
        ax.title.set_fontsize(10)
    return figure


def scores() -> Figure:
    """The score of noised data at three levels, over its density."""
    data, sde = plane_mixture(), scoresde.VPSDE()
    model = scoresde.ExactModel(data, sde)
    figure, axes = panels(3, 3.2, 3.3)
    fine = torch.cartesian_prod(*[torch.linspace(-2.8, 2.8, 160, dtype=torch.float64)] * 2)
    coarse = torch.cartesian_prod(*[torch.linspace(-2.5, 2.5, 15, dtype=torch.float64)] * 2)
    for ax, t in zip(axes, (0.6, 0.25, 0.06), strict=True):
        level = sde.at(t)
        density = data.log_prob(fine, level.alpha, level.sigma).exp().reshape(160, 160)
        ax.imshow(density.T.sqrt(), extent=(-2.8, 2.8, -2.8, 2.8), origin="lower", cmap="Blues")
        field = model(coarse, t).score
        # the direction as it is; the length compressed, since it grows as 1 / sigma
        length = field.norm(dim=1, keepdim=True)
        arrows = field / length * torch.log1p(length)
        ax.quiver(*coarse.T, *arrows.T, color=COLOURS[1], width=0.005, scale=42)
        ax.set(title=f"t = {t}, sigma = {level.sigma:.2f}", xticks=[], yticks=[])
        ax.title.set_fontsize(10)
    return figure


def nouns() -> Figure:
    """The four nouns and what passes between them."""
    figure = Figure(figsize=(8.6, 2.9), dpi=130, facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 86), ylim=(0, 29))
    ax.set_axis_off()
    boxes = {
        "Data": (2, 9, "items, held-out items,\nencode and decode"),
        "ScoreModel": (32, 9, "network + SDE\n+ preconditioning"),
        "Sampler": (62, 9, "solver, grid, steps,\neta, corrector"),
        "SDE": (32, 21, "alpha(t), sigma(t)"),
    }
    for colour, (name, (x, y, words)) in zip(COLOURS, boxes.items(), strict=False):
        tall = 7 if name == "SDE" else 9
        box = FancyBboxPatch((x, y), 22, tall, boxstyle="round,pad=0.3", facecolor="white", edgecolor=colour, lw=1.6)
        ax.add_patch(box)
        ax.text(x + 11, y + tall - 1.8, name, ha="center", va="center", fontsize=12, color=INK, weight="bold")
        ax.text(x + 11, y + tall - 5.2, words, ha="center", va="center", fontsize=8.5, color=INK, linespacing=1.3)
    style = {"arrowstyle": "-|>", "color": INK, "lw": 1.1}
    for start, end, words, where in (
        ((24.7, 13.5), (31.4, 13.5), "train", (28, 14.9)),
        ((54.7, 13.5), (61.4, 13.5), "x0, eps", (58, 14.9)),
        ((43, 20.4), (43, 18.6), "", (0, 0)),
    ):
        ax.annotate("", end, start, arrowprops=style)
        ax.text(*where, words, ha="center", va="bottom", fontsize=8.5, color=INK)
    ax.plot([73, 73, 13], [8.4, 4, 4], color=INK, lw=1.1)
    ax.annotate("", (13, 8.6), (13, 3.9), arrowprops=style)
    ax.text(43, 2.2, "samples in model units, decoded to data units", ha="center", va="center", fontsize=8.5, color=INK)
    return figure


def grids() -> Figure:
    """Where eleven points of seven grids lie under the VP SDE."""
    sde = scoresde.VPSDE()
    names = ("lambda", "karras", "noise_share", "cosine", "quadratic", "discrete", "time")
    figure, (ax,) = panels(1, 7.6, 2.7)
    for row, (name, colour) in enumerate(zip(names, COLOURS, strict=True)):
        lam = sde.lam(scoresde.grid(name)(sde, 11))
        ax.plot(lam, np.full(11, -row), "o-", color=colour, markersize=4, linewidth=0.6)
    ax.set(yticks=[-row for row in range(len(names))], yticklabels=names)
    ax.set_xlabel("lambda = log(alpha / sigma): noise on the left, data on the right", fontsize=9, color=INK)
    return figure


def solvers() -> Figure:
    """Error against the exact endpoint of the probability-flow ODE, median over 200 samples."""
    data, sde, n = plane_mixture(), scoresde.VPSDE(), 200
    model = scoresde.ExactModel(data, sde)
    precise = scoresde.Sampler(scoresde.solver("dpmpp_3m"), steps=2000)
    options = {"n": n, "seed": 0, "dtype": torch.float64}
    exact = precise.sample(model, **options).x
    figure, (ax,) = panels(1, 6.0, 3.6)
    names = ("auto", "ddim", "dpmpp_2m", "unipc_3", "heun", "dpmpp_3s", "dopri5")
    for name, colour in zip(names, COLOURS, strict=True):
        points = []
        for steps in (4, 5, 6, 8, 10, 15, 20, 30, 50, 75, 100):
            result = scoresde.Sampler(scoresde.solver(name), steps=steps).sample(model, **options)
            if 4 <= result.nfe <= 100:
                points.append((result.nfe, float((result.x - exact).norm(dim=1).median())))
        ax.loglog(*zip(*points, strict=True), "o-", color=colour, markersize=3.5, linewidth=1.1, label=name)
    ax.set_xlabel("evaluations per sample (NFE)", fontsize=9, color=INK)
    ax.set_ylabel("median distance to the exact endpoint", fontsize=9, color=INK)
    ax.set_xticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=8)
    return figure


def chains() -> Figure:
    """The levels of DDPM and improved DDPM, and how far apart the ends of a learned variance are."""
    figure, (left, right) = panels(2)
    for colour, schedule in zip(COLOURS, ("linear", "cosine"), strict=False):
        sde = scoresde.DiscreteVPSDE(schedule)
        times = scoresde.Discrete()(sde, 1000)
        lower, upper = log_variances(sde.sigma(times), sde.lam(times))
        step = range(1000, 0, -1)
        left.plot(step, sde.alpha(times) ** 2, color=colour, label=schedule)
        right.semilogx(step[:-1], (lower - upper).exp()[:-1], color=colour, label=schedule)
    left.set_ylabel("signal left: alpha$^2$", fontsize=9, color=INK)
    right.set_ylabel("beta-tilde / beta", fontsize=9, color=INK)
    for ax in (left, right):
        ax.set_xlabel("step of the chain", fontsize=9, color=INK)
        ax.legend(frameon=False, fontsize=8)
    return figure


DRAWN = (paths, trajectories, scores, nouns, grids, solvers, chains)
FIGURES: dict[str, Callable[[], Figure]] = {f.__name__: f for f in DRAWN}


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of 256 colours, a third of the size."""
    figure.savefig(path)
    with Image.open(path) as drawn:
        drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for name in sys.argv[1:] or FIGURES:
        save(FIGURES[name](), HERE / f"{name}.png")
        print(HERE / f"{name}.png")
