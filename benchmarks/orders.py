"""Orders from a fresh start at T, where equal steps in the noise share hide them: `python benchmarks/orders.py`.

Median distance at t_min to the solution of `adaptive_dopri5` at a tolerance of 1e-10, from the same 64 draws of the
prior, for 20 ... 640 steps on an exact mixture in the plane; the order is that between the last two. In float64.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from record import save

from scoresde import AdaptiveRungeKutta, ExactModel, GaussianMixture, Sampler, grid, sde, solver
from scoresde.sampling import ExponentialMultistep, Solver

STEPS = (20, 40, 80, 160, 320, 640)
RULES: dict[str, Solver] = {
    **{name: solver(name) for name in ("velocity_2", "velocity_3", "velocity_4", "deis")},
    "velocity_3, corrector=3": ExponentialMultistep("velocity", "noise_share", predictor=3, corrector=3),
    "velocity_4, corrector=4": ExponentialMultistep("velocity", "noise_share", predictor=4, corrector=4),
    "reverse_diffusion, eta=0": solver("reverse_diffusion").with_eta(0.0),
}
DATA = GaussianMixture(
    [0.2, 0.5, 0.3],
    [[-1.5, 0.3], [1.0, 1.0], [0.2, -1.2]],
    [[[0.2, 0.05], [0.05, 0.1]], [[0.3, 0.0], [0.0, 0.1]], [[0.15, -0.1], [-0.1, 0.25]]],
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sde", nargs="*", default=["rectified", "vp"])
    parser.add_argument("--grid", nargs="*", default=["noise_share", "lambda"])
    parser.add_argument("--at", type=float, help="time of the start, T by default")
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--out", type=Path, help="file of the result")
    arguments, found = parser.parse_args(), list[dict[str, object]]()
    for path in arguments.sde:
        model = ExactModel(DATA, sde(path))
        request: dict[str, Any] = {"n": arguments.n, "to": model.sde.t_min, "dtype": torch.float64}
        z = torch.randn(arguments.n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        request |= {"start": z * model.sde.prior_std, "at": arguments.at}
        exact = Sampler(AdaptiveRungeKutta(1e-10, 1e-10, pair="dopri5")).sample(model, **request).x
        for where in arguments.grid:
            for name, rule in RULES.items():
                drawn = (Sampler(rule, grid(where), steps).sample(model, **request).x for steps in STEPS)
                errors = [float((x - exact).norm(dim=1).median()) for x in drawn]
                order = math.log2(errors[-2] / errors[-1])
                print(f"{path:10} {where:12} {name:26} {order:5.2f} ", *(f"{e:.1e}" for e in errors), flush=True)
                found.append({"sde": path, "grid": where, "rule": name, "order": order, "errors": errors})
    content = {"n": arguments.n, "at": arguments.at, "steps": STEPS, "rows": found}
    print(f"written to {save('orders', content, arguments.out)}")


if __name__ == "__main__":
    main()
