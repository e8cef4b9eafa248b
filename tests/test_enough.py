"""How many evaluations are enough: the number at the end of a training is that of a search through all numbers."""

import json

import numpy as np
import pytest
import torch
from support import exact_model, mixture, sde_named

from scoresde import GaussianMixture, Sampler, load
from scoresde.cli.main import main
from scoresde.sampling import Auto
from scoresde.workflows import enough
from scoresde.workflows.enough import TRIED, enough_evaluations

N = 16
FAR = GaussianMixture([0.4, 0.6], [[6.0, 5.0], [7.0, 6.5]], [[[0.2, 0.05], [0.05, 0.1]], [[0.1, 0.0], [0.0, 0.3]]])


def shares(model, seed):
    """For 3 ... 50 and 100 evaluations the mean distance to the samples of 100, over the spread of these."""
    x = {n: Sampler(Auto(), steps=n).sample(model, n=N, seed=seed).x.double().numpy() for n in (*range(3, 51), 100)}
    spread = np.sqrt(x[100].var(0).sum())
    return {n: np.linalg.norm(end - x[100], axis=1).mean() / spread for n, end in x.items()}


@pytest.mark.parametrize(("sde", "seed"), [("vp", 1), ("ve", 3)])
def test_the_number_is_that_of_a_search_through_all_numbers(sde, seed):
    model = exact_model(sde_named(sde), FAR)
    apart = shares(model, seed)
    least = next(n for n in sorted(apart) if apart[n] <= 0.01)
    assert 3 < least < 50
    assert enough_evaluations(model, (2,), N, seed) == min(n for n in TRIED if n >= least)


def test_what_never_settles_has_no_number():
    class Wild(type(exact_model(sde_named("vp")))):
        def forward(self, x, t, cond=None):
            return super().forward(x + torch.sin(1e4 * x + 1e6 * t), t)

    assert enough_evaluations(Wild(mixture(), sde_named("vp")), (2,), N, 0) is None


def test_models_that_fail_have_no_number_and_no_error():
    class Broken(type(exact_model(sde_named("vp")))):
        def forward(self, x, t, cond=None):
            return super().forward(x * float("nan"), t)

    assert enough_evaluations(Broken(mixture(), sde_named("vp")), (2,), N, 0) is None


def test_a_training_ends_with_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(enough, "USUAL", (10,))
    tiny = ["debug=tiny", "model=mlp", "model.net.width=8", "data=moons", "data.n=60", "n=6"]
    tiny += ["logger=none", "metrics={}", "~samplers.predictor_corrector", "~samplers.dopri5", "run=r"]
    assert main(["train", *tiny, "trainer.steps=2", "trainer.auto_check=4"]) == 0
    found = json.loads((tmp_path / "r" / "summary.json").read_text())["auto_enough"]
    assert found == enough_evaluations(load("r").model, (2,), 4, 0)
    assert f"auto      {found or 'more than 50'} evaluations are within 1 % of 100\n" in capsys.readouterr().out
    for steps, looks in ((10, False), (7, True), (7, False)):
        load("r").sample(2, steps=steps)
        assert ("pilot" in capsys.readouterr().err) == looks
