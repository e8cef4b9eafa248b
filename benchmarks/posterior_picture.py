"""Draws docs/posterior.png and docs/posterior_digits.png: `python benchmarks/posterior_picture.py [RUN]`.

The first one shows methods beside the exact posterior of eight modes in the plane, of which one coordinate is seen: n
samples by exact scores, and their sliced Wasserstein distance to it over the mean of eight exact sets, against many
exact draws. The second one shows held-out digits of a trained run under four observations.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from record import save
from torch import Tensor

from scoresde import VPSDE, ExactModel, GaussianMixture, Posterior, Sampler, load, solver
from scoresde.figures.style import HIDDEN, INK, SAMPLES
from scoresde.metrics.sliced import sliced_wasserstein
from scoresde.noise import Noise
from scoresde.observation import Blur, Inpaint, Observation, SuperRes
from scoresde.posterior import DPS, MMPS, Gibbs, Method, PiGDM, Population, Twisted
from scoresde.runs import Run
from scoresde.sampling import Ancestral

DOCS = Path(__file__).parents[1] / "docs"
EXACT = "#D55E00"
DRAWS = 20_000  # of the exact posterior
SHOWN = 7  # samples of a digit
OBSERVATIONS: dict[str, tuple[int, Observation]] = {  # by their names, with the held-out digit that is seen
    "a hole": (3, Inpaint((1, 8, 8), box=[2, 2, 6, 6])),
    "half of the pixels": (5, Inpaint((1, 8, 8), share=0.5)),
    "4 x 4 pixels": (10, SuperRes((1, 8, 8), 2)),
    "blurred": (8, Blur((1, 8, 8))),
}


def spiral() -> GaussianMixture:
    """Eight narrow strokes of equal weight."""
    k = torch.arange(8, dtype=torch.float64)
    angle, radius = 0.4 + 0.95 * k, 0.35 + 0.2 * k
    outward = torch.stack([angle.cos(), angle.sin()], dim=1)
    along = torch.stack([-angle.sin(), angle.cos()], dim=1)
    spread = 0.03**2 * outward[:, :, None] * outward[:, None] + 0.12**2 * along[:, :, None] * along[:, None]
    return GaussianMixture(torch.ones(8), radius[:, None] * outward, spread)


def methods(n: int) -> dict[str, tuple[Method, Sampler]]:
    """The methods for n samples, at about 100 evaluations."""
    noisy = solver("dpmpp_2m", eta=1.0)
    return {
        "dps, zeta=0.3": (DPS(0.3), Sampler(steps=100)),
        "pigdm": (PiGDM(), Sampler(steps=100)),
        "mmps": (MMPS(), Sampler(steps=100)),
        "gibbs": (Gibbs(), Sampler(noisy, steps=20)),
        "population": (Population(), Sampler(noisy, steps=8)),
        "twisted": (Twisted(2 * n, n), Sampler(steps=50)),
    }


def plane(n: int, value: float = 0.3, sigma_y: float = 0.1) -> tuple[Figure, dict[str, float]]:
    """The picture of methods in the plane, and their distances."""
    data = spiral()
    seen, y = Inpaint((2,), columns=[0], sigma_y=sigma_y), torch.tensor([value], dtype=torch.float64)
    exact = data.posterior(seen.matrix(), y, sigma_y)
    real = exact.sample(DRAWS, seed=1000)
    floor = sum(sliced_wasserstein(exact.sample(n, seed=k), real) for k in range(8)) / 8
    drawn, cost = {"prior": data.sample(n), "exact posterior": exact.sample(n)}, {}
    for name, (method, sampler) in methods(n).items():
        asked = Posterior(ExactModel(data, VPSDE()), seen, y, method)
        found = sampler.sample(asked, n=n, batch_size=n, dtype=torch.float64)
        drawn[name], cost[name] = found.x, f"{found.nfe:,.0f} evaluations, {found.products:,.0f} products"
    distances = {name: sliced_wasserstein(x, real) / floor for name, x in drawn.items()}
    side = torch.linspace(-2.1, 2.1, 141, dtype=torch.float64)
    density = data.log_prob(torch.cartesian_prod(side, side)).reshape(141, 141).T
    levels = (density.max() - torch.tensor([4.5, 2.0, 0.5])).tolist()
    figure = Figure(figsize=(10.4, 5.9), dpi=100, layout="constrained", facecolor="white")
    for ax, (name, x) in zip(figure.subplots(2, 4).ravel(), drawn.items(), strict=True):
        ax.contour(side, side, density, levels, colors="#999999", linewidths=0.6, linestyles="solid")
        ax.axvline(value, color=INK, linewidth=0.8, linestyle="--")
        own = name in cost
        ax.scatter(*x.T, s=4, color=SAMPLES if own else EXACT, alpha=0.5, linewidths=0)
        ax.set(xlim=(-2, 2), ylim=(-2, 2), aspect="equal")
        title = f"{name}: {distances[name]:.1f}\n{cost[name]}" if own else f"{name}\n"
        _bare(ax, title, 9)
    return figure, distances


def digits(run: Run, n: int, steps: int) -> Figure:
    """Held-out digits, what is seen of them, samples by `mmps`, their mean and their spread."""
    heldout = run.dataset().heldout
    figure = Figure(figsize=(9.6, 3.9), dpi=100, layout="constrained", facecolor="white")
    titles = ["truth", "seen", *["sample"] * SHOWN, "mean", "spread"]
    axes = figure.subplots(len(OBSERVATIONS), len(titles))
    heads = [titles, *[[""] * len(titles)] * (len(OBSERVATIONS) - 1)]
    for row, above, (name, (item, seen)) in zip(axes, heads, OBSERVATIONS.items(), strict=True):
        truth = heldout[item : item + 1]
        y = seen.measure(truth, Noise(item))
        x = Sampler(Ancestral(), steps=steps).sample(Posterior(run.model, seen, y, MMPS(iterations=5)), n=n).x
        deviation = x.std(0)
        spread = 2 * deviation / deviation.max() - 1
        images = [*map(grey, (truth, x[0], *x[:SHOWN], x.mean(0), spread))]
        images[1] = observed(seen, y)
        for ax, image, title in zip(row, images, above, strict=True):
            ax.imshow(image)
            _bare(ax, title, 8)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, color=INK)
    return figure


def grey(image: Tensor) -> Tensor:
    """An image from -1 to 1 as colors (height, width, 3) from 0 to 1."""
    side = image.shape[-2:]
    return ((image.reshape(side) + 1) / 2).clamp(0, 1)[..., None].expand(*side, 3).clone()


def observed(seen: Observation, y: Tensor) -> Tensor:
    """What is seen, as colors."""
    if not isinstance(seen, Inpaint):
        return grey(y)
    image = grey(seen.adjoint(y))
    image[seen.adjoint(torch.ones_like(y))[0, 0] == 0] = torch.tensor(HIDDEN)
    return image


def _bare(ax: Axes, title: str, size: int) -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color("#C4C4C4")
    ax.set_title(title, fontsize=size, color=INK)


def write(figure: Figure, path: Path) -> None:
    """A PNG of 128 colors, a third of the size."""
    figure.savefig(path)
    with Image.open(path) as drawn:
        drawn.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="of digits; without it only the first picture is drawn")
    parser.add_argument("--n", type=int, default=1000, help="samples of each method in the plane")
    parser.add_argument("--items", type=int, default=16, help="samples of a digit")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=DOCS, help="of the pictures")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    figure, distances = plane(asked.n)
    write(figure, asked.folder / "posterior.png")
    print(*(f"{name:20} {distance:.2f}" for name, distance in distances.items()), sep="\n")
    save("posterior_picture", {"n": asked.n, "distances": distances}, asked.out)
    if asked.run:
        write(digits(load(asked.run), asked.items, asked.steps), asked.folder / "posterior_digits.png")


if __name__ == "__main__":
    main()
