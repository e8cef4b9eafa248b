"""How far the Ito density along a reverse SDE is from the density: `python benchmarks/ito_density.py`.

Samples of an exact model in 8 dimensions by Euler-Maruyama in equal steps of lam, with the density along their own
paths, that of the probability-flow ODE at the same points, and the exact one. Printed are the mean, the standard
deviation and the mean absolute value of the error in nats. Results go to benchmarks/results/.
"""

import argparse
from pathlib import Path

import torch
from record import save

from scoresde import VPSDE, ExactModel, GaussianMixture, Likelihood
from scoresde.likelihood.ito import ito_density
from scoresde.results.interval import student
from scoresde.sampling import EulerMaruyama, LambdaUniform, Sampler

SIZE, MODES, WIDTH = 8, 5, 0.2**0.5
ODE_STEPS = 50


def problem() -> tuple[GaussianMixture, ExactModel]:
    means = torch.randn(MODES, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = GaussianMixture(
        [1 / MODES] * MODES, means, WIDTH**2 * torch.eye(SIZE, dtype=torch.float64).expand(MODES, -1, -1)
    )
    model = ExactModel(data, VPSDE())
    model.event_shape = (SIZE,)
    return data, model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=500, help="samples")
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 100, 200, 400, 800])
    parser.add_argument("--out", type=Path, help="file for the results")
    a = parser.parse_args()
    torch.set_num_threads(1)
    data, model = problem()
    alpha, sigma, _ = model.sde.at(model.sde.t_train)
    rows = []
    for steps in a.steps:
        x, nats = ito_density(model, Sampler(EulerMaruyama(), LambdaUniform(), steps, denoise=False), a.n)
        exact, ode = data.log_prob(x, alpha, sigma), Likelihood(steps=ODE_STEPS)(model, x).nats
        row = {"steps": steps, "n": a.n, "ode": student((ode - exact).abs().tolist())[:2]}
        off = nats - exact
        row |= {
            "mean": student(off.tolist())[:2],
            "std": off.std().item(),
            "size": student(off.abs().tolist())[:2],
        }
        rows.append(row)
        (mean, half), (size, error) = row["mean"], row["size"]
        ours = f"mean {mean:7.3f} ± {half:.3f}  std {row['std']:.3f}  size {size:.3f} ± {error:.3f}"
        print(f"{steps:5} steps  {ours}  ODE {row['ode'][0]:.1e}", flush=True)
    print(f"written to {save('ito_density', {'rows': rows, 'size': SIZE, 'modes': MODES, 'width': WIDTH}, a.out)}")


if __name__ == "__main__":
    main()
