"""One healthy training and four broken ones on two moons, three seeds each; makes the pictures of docs/training.md.

    python benchmarks/healthy_training.py runs/healthy            # trains what is missing there, then draws
    python benchmarks/healthy_training.py runs/healthy --figures docs/pictures

Takes about ten minutes on a CPU core. Prints the table of the page.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import scoresde
from scoresde.metrics import sliced_wasserstein
from scoresde.runs import Run
from scoresde.sampling import DPMSolverPP2M

COMMON = (
    *("data=moons", "model=mlp", "logger=none", "metrics=distances", "n=1000"),
    *("trainer.steps=2500", "trainer.batch_size=256", "trainer.evaluate_every=250", "trainer.checkpoint_every=0"),
    *("samplers.predictor_corrector.steps=2", "samplers.dopri5.solver.rtol=0.1", "samplers.dopri5.solver.atol=0.1"),
)
SETTINGS = {
    "healthy": (),
    "learning rate 50 times too high": ("optimizer.lr=0.1",),
    "data not scaled (sigma_data = 30)": ("model.sigma_data=30",),
    "no averaging, constant learning rate": ("trainer.ema=0", "trainer.schedule=constant", "optimizer.lr=0.01"),
    "too little noise (VE, sigma_max = 1)": ("sde=ve", "sde.sigma_max=1"),
}
SEEDS = (0, 1, 2)
INK, FAINT = "#333333", "#C4C4C4"
COLOURS = ("#009E73", "#D55E00", "#0072B2", "#D98200", "#CC79A7")


def folder(root: Path, setting: int, seed: int) -> Path:
    return root / f"{setting}-{seed}"


def train(root: Path) -> None:
    for setting, settings in enumerate(SETTINGS.values()):
        for seed in SEEDS:
            run = folder(root, setting, seed)
            if not (run / "summary.json").is_file():
                command = [sys.executable, "-m", "scoresde", "train", f"run={run}", f"seed={seed}", *COMMON, *settings]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def logged(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def levels(run: Path) -> list[tuple[float, float]]:
    """(lambda, loss) of the noise levels that EDM's density visits often, over the last fifth of the training."""
    lines = [line for line in logged(run) if "loss" in line]
    kept = lines[-len(lines) // 5 :]
    keys = sorted({k for line in kept for k in line if k.startswith("loss_at/")}, key=lambda k: float(k.split("_")[-1]))
    means = {}
    for key in keys:
        values = [line[key] for line in kept if key in line]
        means[float(key.split("_")[-1])] = sum(values) / len(values)
    return [(lam, loss) for lam, loss in means.items() if -3.5 < lam < 5.5]


def styled(ax: Axes) -> Axes:
    ax.tick_params(labelsize=8, colors=INK)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    return ax


def curves(root: Path) -> Figure:
    """Training loss, held-out loss and loss per level, a line for each seed."""
    figure = Figure(figsize=(8.6, 3.5), dpi=150, layout="constrained", facecolor="white")
    axes = [styled(ax) for ax in figure.subplots(1, 3)]
    for setting, (name, colour) in enumerate(zip(SETTINGS, COLOURS, strict=True)):
        for seed in SEEDS:
            lines = logged(folder(root, setting, seed))
            style = {"color": colour, "linewidth": 1.0, "alpha": 0.85}
            for ax, key in zip(axes, ("loss", "heldout_loss"), strict=False):
                ax.plot(*zip(*[(x["step"], x[key]) for x in lines if key in x], strict=True), **style)
            axes[2].plot(
                *zip(*levels(folder(root, setting, seed)), strict=True), "o-", markersize=3, **style,
                label=name if seed == SEEDS[0] else None,
            )  # fmt: skip
    below = ("step", "step", "lambda: noise on the left, data on the right")
    titles = ("training loss", "held-out loss", "loss per noise level")
    ticks = ((0.5, 1, 2, 5, 10, 20), (0.6, 0.7, 0.8, 0.9, 1.0), (0.01, 0.03, 0.1, 0.3, 1, 3))
    for ax, title, label, shown in zip(axes, titles, below, ticks, strict=True):
        ax.set_title(title, fontsize=10, color=INK)
        ax.set_xlabel(label, fontsize=8, color=INK)
        ax.set_yscale("log")
        ax.set_ylim(0.9 * shown[0], 1.1 * shown[-1])  # spikes leave the panel
        ax.set_yticks(shown, [str(value) for value in shown])
        ax.minorticks_off()
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    return figure


def draw(run: Run, n: int = 1000) -> torch.Tensor:
    sampler = scoresde.Sampler(DPMSolverPP2M(), steps=50)
    return sampler.sample(run.model, run.event_shape, n=n, seed=0).x


def samples(root: Path) -> tuple[Figure, dict[str, list[float]]]:
    """Samples of the first seed, and the distance to held-out data over its floor for every seed."""
    figure = Figure(figsize=(8.6, 2.3), dpi=150, layout="constrained", facecolor="white")
    axes, ratios = figure.subplots(1, len(SETTINGS)), {}
    for setting, (name, colour) in enumerate(zip(SETTINGS, COLOURS, strict=True)):
        for seed in SEEDS:
            run = scoresde.load(folder(root, setting, seed), device="cpu")
            data, x = run.dataset(), draw(run)
            distance = sliced_wasserstein(x, data.heldout, 500, 0)
            floor = sliced_wasserstein(data.items[: len(x)], data.heldout, 500, 0)
            ratios.setdefault(name, []).append(distance / floor)
            if seed == SEEDS[0]:
                ax = styled(axes[setting])
                ax.scatter(*data.heldout[:1000].T, s=2, color=FAINT, linewidths=0)
                ax.scatter(*x.T, s=2, color=colour, linewidths=0, alpha=0.7)
                ax.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[])
                ax.set_title(
                    name.replace(" (", "\n(").replace("averaging, ", "averaging,\n").replace(" 50", "\n50"),
                    fontsize=7.5,
                    color=INK,
                )
    return figure, ratios


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path)
    with Image.open(path) as drawn:
        drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--figures", type=Path, default=Path("docs/pictures"))
    arguments = parser.parse_args()
    arguments.root.mkdir(parents=True, exist_ok=True)
    train(arguments.root)
    save(curves(arguments.root), arguments.figures / "training_curves.png")
    figure, ratios = samples(arguments.root)
    save(figure, arguments.figures / "training_samples.png")
    print("| Training | Held-out loss | Distance / floor |\n|---|---|---|")
    for setting, name in enumerate(SETTINGS):
        last = [
            [x["heldout_loss"] for x in logged(folder(arguments.root, setting, seed)) if "heldout_loss" in x][-1]
            for seed in SEEDS
        ]
        shown = [", ".join(f"{v:.{digits}f}" for v in values) for values, digits in ((last, 3), (ratios[name], 1))]
        print(f"| {name} | {shown[0]} | {shown[1]} |")
        assert all(math.isfinite(v) for v in last)


if __name__ == "__main__":
    main()
