"""The solver that a model brings for samplers that name none: of a posterior that of its method."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support import options

from scoresde import ExactModel, GaussianMixture, Posterior, Sampler, Wrapper, sde, solver
from scoresde.cli.main import main
from scoresde.comparison import posteriors
from scoresde.comparison.entries import Defaults, candidates
from scoresde.observation import Inpaint
from scoresde.posterior.steps import Interleaved
from scoresde.sampling import Ancestral, Auto, Terminal, TimeUniform

RUN = Path(__file__).parent / "fixtures/d14582e/run"
PRIOR = ExactModel(GaussianMixture([1.0], [[0.0, 1.0]], torch.eye(2)[None]), sde("vp"))


def asked(method: str = "mmps") -> Posterior:
    return Posterior(PRIOR, Inpaint((2,), columns=[0], sigma_y=0.1), torch.tensor([0.5]), method)


def test_a_sampler_that_names_no_solver_takes_that_of_the_method():
    open_, named = Sampler(steps=5), Sampler(Ancestral(), steps=5)
    for model in (asked(), Around(asked())):
        assert (open_.sample(model, n=3).x == named.sample(model, n=3).x).all()
    assert open_.suited(asked()).suited(asked()).grid == Terminal(low=0.1)
    assert Sampler(steps=5, eta=0.5).suited(asked()).solver == Ancestral(eta=0.5)
    grid = TimeUniform()
    assert Sampler(grid=grid).suited(asked()).grid is grid


class Around(Wrapper):
    def forward(self, x, t, cond=None):
        return self.model(x, t, cond)


def test_one_that_is_named_stays_and_so_does_that_of_a_plain_model():
    assert Sampler(Auto(), steps=5).suited(asked()).solver == Auto()
    assert Sampler(solver("heun"), steps=5).suited(asked()).solver == solver("heun")
    open_ = Sampler(steps=5)
    assert open_.suited(PRIOR).solver == Auto()
    assert open_.suited(PRIOR).suited(asked()).solver == Ancestral()


@pytest.mark.parametrize("method", options("posterior"))
def test_every_method_samples_with_it(method):
    found = Sampler(steps=5).suited(asked(method)).solver
    inner = found.inner if isinstance(found, Interleaved) else found
    assert type(inner) is (Auto if method == "population" else Ancestral)


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ([], "ancestral"),
        (["posterior=diffpir", "sampler.eta=0.5"], "ancestral"),
        (["solver=auto"], "auto"),
        (["sampler.solver.eta=0.2"], "auto"),
        (["solver=ddim"], "ddim"),
    ],
)
def test_what_is_printed_and_written_is_the_solver_that_was_taken(settings, label, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("y.npy", np.array([0.4]))
    shutil.copytree(RUN, "run")  # in which a pilot of auto writes
    seen = ["observation=inpaint", "observation.columns=[0]", "observation.measured=y.npy", "sampler.steps=4", "n=3"]
    assert main(["sample", "run=run", *seen, *settings, "out=out"]) == 0
    assert f"{label}: 3 samples, 4 network evaluations each" in capsys.readouterr().out
    written = json.loads(Path("out/summary.json").read_text())["sampler"]
    kind = type(solver(label)).__name__
    assert written["solver"]["_target_"].endswith(f".{kind}")
    taken = np.load("out/samples.npz")["samples"]
    same = [f"solver={label}", *(s for s in settings if not s.startswith("solver="))]
    assert main(["sample", "run=run", *seen, *same, "out=again"]) == 0
    assert (np.load("again/samples.npz")["samples"] == taken).all()


def test_a_comparison_that_names_none_takes_that_of_each_method():
    (auto,) = candidates("auto", Defaults())
    rows = posteriors(["mmps", "exact"], [auto], 100, usual=True)
    assert [row.solver for row in rows] == [Ancestral(), Auto()]
    assert posteriors("mmps", [auto], 100)[0].solver == Auto()
