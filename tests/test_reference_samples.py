"""Samples, grids and corrected samples stay as commit d14582e drew them, for the same seeds.

The file was written there by `python tests/test_reference_samples.py`, and is written again only where a fault is
fixed that changes samples: so for torchdiffeq on the rectified path, whose drift at T was rounded to float32, for
adaptive solvers, whose first step became another, for `auto` and `terminal`, another rule and other levels, and for
stochastic rules of order 1, whose default grid became `terminal`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import CORRECTORS, SOLVERS, built, exact_model, options, sde_named, solver_named

from scoresde import Sampler

FILE = Path(__file__).parent / "fixtures" / "samples_d14582e.npz"
PATHS = ("vp", "edm", "rectified")
GRIDS = sorted(set(options("grid")) - {"auto", "list", "pilot", "tuned"})
CASES = {
    **{f"{path} {solver}": (path, {"solver": solver}) for path in PATHS for solver in SOLVERS},
    **{f"vp ddim {grid}": ("vp", {"solver": "ddim", "grid": grid}) for grid in GRIDS},
    **{f"vp ancestral {name}": ("vp", {"solver": "ancestral", "corrector": name}) for name in CORRECTORS},
}


def draw(path, parts):
    sampler = Sampler(steps=8, **{k: solver_named(v) if k == "solver" else built(k, v) for k, v in parts.items()})
    model = exact_model(sde_named(path))
    return sampler.sample(model, (2,), n=5, seed=3, batch_size=3, dtype=torch.float64).x.numpy()


@pytest.mark.parametrize("case", CASES)
def test_samples_stay_the_same(case):
    with np.load(FILE) as stored:
        np.testing.assert_allclose(draw(*CASES[case]), stored[case], rtol=0, atol=1e-6)


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **{case: draw(*of) for case, of in CASES.items()})
