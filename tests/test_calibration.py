"""Ranks are uniform of exact posteriors, and tests of them find posteriors that are not."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special, stats
from support import gaussian, sde_named

from scoresde import ExactModel, GaussianMixture, InputError, Sampler
from scoresde.checks import Calibration, ranked, uniform
from scoresde.cli.main import main
from scoresde.data import Dataset, Transform
from scoresde.observation import Projection
from scoresde.posterior import Method, Twisted
from scoresde.sampling import Ancestral

RUN = Path(__file__).parent / "fixtures/d14582e/run"
SEEN = Projection((2,), matrix=[[0.8, -0.6]], sigma_y=0.5)


def binomial(share: float, n: int) -> float:
    """Half of the 99.9 % interval of a share."""
    return 3.29 * (share * (1 - share) / n) ** 0.5


@pytest.mark.parametrize("draw", [lambda *shape: torch.randint(0, 3, shape), lambda *shape: torch.zeros(shape)])
@pytest.mark.parametrize("count", [1, 4])
def test_ranks_are_uniform_whatever_is_equal(draw, count):
    torch.manual_seed(0)
    u = ranked(draw(4000, count), draw(4000), torch.rand(4000))
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3


def test_without_ties_a_rank_is_the_number_of_samples_below():
    samples, truth = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([2.5])
    assert ranked(samples, truth, torch.tensor([0.0])).tolist() == [0.5]
    assert ranked(samples, truth, torch.tensor([0.999])).item() == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize("values", [1, 3])
def test_the_p_value_is_uniform_and_finds_what_is_narrow(values):
    """Values of an item depend on each other. The power is that of the docstring."""
    rng, n = np.random.default_rng(0), 200
    z = rng.normal(size=(400, n, values)) + rng.normal(size=(400, n, 1))
    z = z / z.std()

    def p(u):
        return np.array([uniform(torch.from_numpy(one)) for one in special.ndtr(u)])

    right, narrow, shifted = p(z), p(z / 0.8), p(z + 0.25)
    for level in (0.05, 0.5):
        assert abs((right < level).mean() - level) < binomial(level, 400)
    assert stats.kstest(right, "uniform").pvalue > 1e-3
    assert (narrow < 0.05).mean() > 0.85
    assert (shifted < 0.05).mean() > 0.85


def data() -> Dataset:
    return Dataset(gaussian().sample(300).float(), gaussian().sample(300, 1).float(), Transform("points", (2,)))


def found(model=None, posterior="mmps", **changes):
    settings = {"sampler": Sampler(Ancestral(), steps=60), "samples": 19, "batch_size": 300, "n": 300, **changes}
    model = model or ExactModel(gaussian(), sde_named("vp"))
    return Calibration(SEEN, posterior, **settings)(model, data(), None)


def test_the_exact_conditional_denoiser_passes(tmp_path):
    """Of Gaussian data it is that of mmps."""
    calibration = Calibration(SEEN, "mmps", Sampler(Ancestral(), steps=60), 300, 19, batch_size=300)
    values = calibration(ExactModel(gaussian(), sde_named("vp")), data(), tmp_path / "c")
    assert min(values[f"p_{name}"].value for name in ("values", "distance", "misfit")) > 0.01
    for share in (0.5, 0.9):
        assert abs(values[f"coverage_{100 * share:.0f}"].value - share) < binomial(share, 300)
    assert abs(values["rank_spread"].value - 1) < 3 * values["rank_spread"].half
    assert (values["calibration_nfe"].value, values["calibration_products"].value) == (60, 60)
    assert not calibration.warnings(values)
    kept = np.load(tmp_path / "c" / "ranks.npz")
    assert kept["values"].shape == (300, 2)
    assert abs((np.abs(kept["values"] - 0.5) <= 0.25).mean() - values["coverage_50"].value) < 1e-12
    assert (tmp_path / "c" / "ranks.png").is_file()


def test_a_prior_that_is_too_narrow_fails_on_items_of_the_data_and_passes_on_its_own():
    own = gaussian()
    covariance = 0.64 * own.axes @ torch.diag_embed(own.variances) @ own.axes.mT
    narrow = ExactModel(GaussianMixture([1.0], own.means, covariance), sde_named("vp"))
    values = found(narrow)
    assert values["p_values"].value < 1e-3
    assert values["rank_spread"].value - 1 > values["rank_spread"].half
    assert values["coverage_90"].value + values["coverage_90"].half < 0.9
    assert min(v.value for key, v in found(narrow, truths="drawn").items() if key.startswith("p_")) > 0.01


@dataclass(frozen=True, repr=False)
class Blind(Method):
    """Takes no notice of y."""

    def denoised(self, asked, x, t, cond):
        return asked.plain(x, t, cond)


def test_samples_of_the_prior_pass_in_their_values_and_not_in_their_misfit():
    values = found(posterior=Blind())
    assert values["p_values"].value > 0.01
    assert values["p_distance"].value > 0.01
    assert values["p_misfit"].value < 1e-6
    (said,) = Calibration().warnings(values)
    assert "|y - A(x)|" in said
    assert "its distance" not in said


def test_batches_change_nothing():
    few = {"n": 7, "sampler": Sampler(Ancestral(), steps=5)}
    whole = found(**few)
    for size in (1, 3):
        assert {k: v.value for k, v in found(**few, batch_size=size).items()} == pytest.approx(
            {k: v.value for k, v in whole.items()}, abs=1e-6
        )


def test_a_posterior_of_a_method_with_particles_is_drawn_for_each_item():
    values = found(posterior=Twisted(20, 20), samples=20, n=10, sampler=Sampler(steps=6))
    assert values["calibration_nfe"].value == 6 + 1


def test_where_nothing_is_left_to_miss_the_misfit_is_left_out():
    seen = Projection((2,), matrix=[[0.8, -0.6]], sigma_y=0.0)
    own = Calibration(seen, "replace", Sampler(Ancestral(), steps=3), 5, 9)
    assert "p_misfit" not in own(ExactModel(gaussian(), sde_named("vp")), data(), None)


def test_the_command_says_how_well_posteriors_of_held_out_items_are_calibrated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["metrics.calibration.n=5", "metrics.calibration.samples=9", "sampler.steps=4", "solver=ddim", "out=o"]
    command = ["evaluate", f"run={RUN}", "metrics=calibration", "logger=none", *small]
    asked = ["observation=inpaint", "observation.columns=[0]", "observation.sigma_y=0.3", "posterior=dps"]
    assert main([*command, *asked]) == 0
    printed = capsys.readouterr().out
    assert "90 %" in printed
    assert "p, values" in printed
    (row,) = json.loads((tmp_path / "o" / "results.json").read_text())["rows"]
    assert row["values"]["calibration_nfe"] == [4]
    named = main([*command[:4], *small[:3], *asked, "solver=ancestral", "out=p"])
    assert named == main([*command[:4], *small[:3], *asked, "out=q"]) == 0  # that of the method
    p, q, drawn = (np.load(tmp_path / name / "calibration" / "ranks.npz")["values"] for name in "pqo")
    assert np.array_equal(p, q)
    assert not np.array_equal(p, drawn)
    ranks = np.floor(drawn * 10)
    assert ((ranks >= 0) & (ranks <= 9)).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["metrics=calibration"], "observation: nothing is observed; give observation=inpaint"),
        (["metrics=distances", "observation=inpaint"], "observation: none of the metrics asks for it"),
        (["metrics=distances", "posterior=dps"], "posterior: none of the metrics asks for it"),
        (["metrics=calibration", "observation=inpaint", "observation.sigma_y=0", "posterior=daps"], "sigma_y: 0"),
        (["metrics=calibration", "metrics.calibration.observation=inpain"], "did you mean inpaint"),
        (["metrics=calibration", "observation=inpaint", "posterior=twisted", "solver=heun"], "solver: .*no density"),
        (["metrics=calibration", "observation=inpaint", "metrics.calibration.n=2"], "metrics.calibration.n: 2"),
    ],
)
def test_what_cannot_be_calibrated_is_one_line_and_nothing_is_written(settings, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", f"run={RUN}", *settings, "logger=none", "out=o"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(said, error), error
    assert not (tmp_path / "o").exists()


def test_of_one_rank_an_item_the_statistic_is_chi_squared():
    """Ranks of 1 have f = (sqrt 3, sqrt 5), so n |f|^2 = 8 n, of which exp(-4 n) is the tail."""
    assert uniform(torch.ones(3)) == pytest.approx(np.exp(-12), rel=1e-9)


def test_too_few_ranks_have_no_test():
    with pytest.raises(InputError, match=r"u: .*three items"):
        uniform(torch.rand(2, 4))
