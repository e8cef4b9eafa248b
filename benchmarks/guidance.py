"""What guidance samples beside what it claims: `python benchmarks/guidance.py`.

Sliced Wasserstein distance to p(x) p(c | x)^w, drawn exactly, over the floor (two such draws), on mixtures with classes
and exact scores; and the time of a wrapper beside that of its two calls. 95 % intervals over seeds.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from record import save

from scoresde import VPSDE, Conditioned, Model, Sampler, ScoreModel
from scoresde.comparison import Mixture
from scoresde.conditional import ConditionalMixture, ExactConditional
from scoresde.control import ClassifierGuided, Guided, PlusPlus, Projected
from scoresde.metrics.sliced import sliced_wasserstein
from scoresde.nets import UNet
from scoresde.posterior import Exact
from scoresde.results.interval import student
from scoresde.sampling import DDIM, EulerMaruyama, Heun, Langevin

# dimension, components, seed; the last one was not looked at while Exact was made
PROBLEMS = {"2-D, seed 0": (2, 6, 0), "2-D, seed 1": (2, 6, 1), "8-D, seed 1": (8, 6, 1), "left out: 4-D": (4, 6, 5)}


def rows(scale: float) -> dict[str, tuple[Sampler, Callable[[ExactConditional], Model]]]:
    """Each sampler with its model, for class 0."""

    def pair(model: ExactConditional) -> tuple[Model, Model]:
        return Conditioned(model, [0]), Conditioned(model, [0], 0.0)

    def plain(model: ExactConditional) -> Model:
        return Conditioned(model, [0], scale)

    return {
        "no guidance": (Sampler(Heun(), steps=50), lambda m: Conditioned(m, [0])),
        "cfg, ODE": (Sampler(Heun(), steps=50), plain),
        "cfg, SDE": (Sampler(EulerMaruyama(), steps=100), plain),
        "classifier, ODE": (Sampler(Heun(), steps=50), lambda m: ClassifierGuided(m, m.data, [0], scale)),
        "interval 0.2-3": (Sampler(Heun(), steps=50), lambda m: Guided(*pair(m), scale, [0.2, 3.0])),
        "apg": (Sampler(Heun(), steps=50), lambda m: Guided(*pair(m), scale, None, Projected())),
        "cfgpp at 0.6": (Sampler(DDIM(), steps=50), lambda m: Guided(*pair(m), 0.6, None, PlusPlus())),
        "eight Langevin steps": (Sampler(DDIM(eta=1.0), steps=100, corrector=Langevin(0.3, 8)), plain),
        "exact": (Sampler(steps=100), lambda m: Guided(*pair(m), scale, None, Exact())),
    }


def distances(
    problem: tuple[int, int, int], scale: float, n: int, seeds: int, only: Sequence[str] = ()
) -> dict[str, list[float]]:
    """Distance over floor of each row, or of some, for each seed."""
    mixture = Mixture(*problem).distribution
    data = ConditionalMixture(mixture, [k % 2 for k in range(problem[1])])
    model = ExactConditional(data, VPSDE())
    real = [data.tilted(0, scale, n, 1000 + seed) for seed in range(2 * seeds)]
    floor = sum(sliced_wasserstein(real[i], real[seeds + i]) for i in range(seeds)) / seeds
    found: dict[str, list[float]] = {}
    for name, (sampler, of) in rows(scale).items():
        if only and name not in only:
            continue
        for seed in range(seeds):
            x = sampler.sample(of(model), n=n, seed=seed, dtype=torch.float64).x
            found.setdefault(name, []).append(sliced_wasserstein(x, real[seed]) / floor)
    return found


def overhead(repeats: int = 300) -> float:
    """Time that `Guided` adds to the calls of its two models, as a share of one call of a U-Net."""
    small = ScoreModel(torch.nn.Identity(), VPSDE()).eval()
    small.net.forward = lambda x, c: x  # type: ignore[method-assign, assignment]  # next to nothing
    unet, x = ScoreModel(UNet((1, 32, 32), channels=64), VPSDE()).eval(), torch.randn(8, 1, 32, 32)
    guided = Guided(small, small, 2.0, [0.2, 3.0])

    def seconds(call: Callable[[], object], repeats: int) -> float:
        spent = []
        for _ in range(repeats):
            began = time.perf_counter()
            call()
            spent.append(time.perf_counter() - began)
        return sorted(spent)[repeats // 2]

    with torch.no_grad():
        alone = seconds(lambda: (small(x, 0.3), small(x, 0.3)), repeats)
        return (seconds(lambda: guided(x, 0.3).x0, repeats) - alone) / seconds(lambda: unet(x, 0.3).x0, 9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scales", type=float, nargs="*", default=[1.5, 3.0])
    parser.add_argument("--n", type=int, default=1000, help="samples of each seed")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="file of the result")
    a = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[float]]] = {}
    for scale in a.scales:
        for name, problem in PROBLEMS.items():
            found[f"w = {scale:g}, {name}"] = table = distances(problem, scale, a.n, a.seeds)
            for row, values in table.items():
                got = student(values)
                print(f"w = {scale:g}  {name:<14} {row:<22} {got}", flush=True)
    share = [overhead() for _ in range(5)]
    print(f"overhead of the wrapper: {student(share)} of a call of a U-Net")
    print(f"written to {save('guidance', {'n': a.n, 'seeds': a.seeds, 'distances': found, 'overhead': share}, a.out)}")


if __name__ == "__main__":
    main()
