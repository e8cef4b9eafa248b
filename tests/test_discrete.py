"""Chains of numbered levels: the paths through them, their grids, and the steps of DDPM and improved DDPM."""

import pytest
import torch

import scoresde
from scoresde import DiscreteVPSDE, LabelledModel, LevelsVPSDE
from scoresde.build import build
from scoresde.runs.upgrade import upgraded

CHAIN = DiscreteVPSDE(levels=40, first=2e-3, last=0.3)


@pytest.mark.parametrize("cls", [DiscreteVPSDE, LevelsVPSDE, LabelledModel])
def test_configurations_of_before_name_the_same_classes(cls):
    stored = {"levels": 40} if cls is DiscreteVPSDE else {"alphas": [0.9, 0.5, 0.1]}
    runtime = {}
    if cls is LabelledModel:
        stored, runtime = {"label_scale": 39.0}, {"net": torch.nn.Identity(), "sde": CHAIN}
    found = build(upgraded({"part": {"_target_": f"scoresde.convert.{cls.__name__}", **stored}})["part"], **runtime)
    assert type(found) is cls
    assert scoresde.describe(found)["_target_"] == f"scoresde.{cls.__name__}"


def test_a_path_through_levels_has_the_slopes_of_its_alpha_and_sigma():
    t = torch.linspace(1e-8, 1, 203, dtype=torch.float64)
    h = 1e-6
    before, after = (t - h).clamp(0), (t + h).clamp(max=1)
    alpha, sigma = ((f(after) - f(before)) / (after - before) for f in (CHAIN.alpha, CHAIN.sigma))
    torch.testing.assert_close(torch.stack(CHAIN.slopes(t)), torch.stack((alpha, sigma)), rtol=2e-4, atol=1e-6)
    torch.testing.assert_close(CHAIN.t_of_lam(CHAIN.lam(t)), t)
    torch.testing.assert_close(CHAIN.alpha(t) ** 2 + CHAIN.sigma(t) ** 2, torch.ones_like(t))
