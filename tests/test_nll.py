"""The likelihood as a metric: against exact probabilities and densities, killed, in other batches, and refused."""

import html
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import mixture, sde_named
from torch import nn
from torch.special import ndtr

import scoresde
from scoresde import ExactModel, GaussianMixture, InputError, ScoreModel
from scoresde.chains import BinomialChain, ExactBits
from scoresde.control import Conditioned
from scoresde.data import Dataset, Transform
from scoresde.divergence import Hutchinson
from scoresde.evaluations import count_evaluations
from scoresde.likelihood import LatentQuality, Likelihood, NegativeLogLikelihood, Outliers, allocated
from scoresde.nets import ResidualMLP

F64 = torch.float64
SIX = Transform("table", (2,), 2.5, 4.0, low=0.0, high=5.0, levels=6, dtype="uint8")  # cells of 1/4 in model units
WIDE = torch.tensor([0.35, 0.25], dtype=F64)
ONE = GaussianMixture([1.0], [[0.1, -0.2]], WIDE.square().diag()[None])


def quantised(n=12):
    levels = torch.cartesian_prod(torch.arange(6), torch.arange(6))[:: 36 // n][:n]
    return Dataset(SIX.encode(levels.float()), SIX.encode(levels.float()), SIX)


def continuous(scale=1.0):
    x = mixture().sample(9, seed=1).float()
    return Dataset(x, x, Transform("table", (2,), 0.0, scale))


def test_a_model_that_spreads_over_cells_has_the_probability_of_each(tmp_path):
    """The Gaussian of x_eps / alpha over a cell, by the distribution function; K draws come near it."""
    sde, data = sde_named("vp"), quantised()
    model = ExactModel(ONE, sde)
    settings = {"dequantisation": "uniform", "draws": 4, "at": 1e-5, "bound_draws": 0}
    found = NegativeLogLikelihood("dopri5", "lambda", steps=8, **settings)(model, data, tmp_path)
    x0 = data.heldout.double()
    ends = [ndtr((x0 - ONE.means + side / 8) / WIDE) for side in (1, -1)]  # sigma of the cut-off is 0.001
    exact = -(ends[0] - ends[1]).log().sum(1)
    items = np.load(tmp_path / "items.npz")
    mean, error = float(exact.mean()), found["nats_error_draws"].value
    assert abs(found["nats"].value - mean) < 3 * error < 0.4
    assert found["draws_gain"].value == pytest.approx(0.1, abs=0.06)  # half of the variance of a weight over 4 draws
    assert found["bits_per_dim"].value == pytest.approx(found["nats"].value / (2 * math.log(2)))
    # the sources of the error add up to it
    parts = [found[f"nats_error_{name}"].value for name in ("items", "draws", "probes")]
    assert math.hypot(*parts) == pytest.approx(items["nats"].std(ddof=1) / math.sqrt(12))
    assert parts[1] > 0.001


def test_a_pilot_shares_out_the_directions():
    model, data, kind = ExactModel(mixture(), sde_named("vp")), continuous(), Hutchinson(4, fresh=True, groups=2)
    found = NegativeLogLikelihood("velocity_2", "lambda", kind, 8, pilot=4, bound_draws=0, seed=3)(model, data, None)
    likelihood = Likelihood(scoresde.solver("velocity_2"), scoresde.grid("lambda"), kind, 8)
    x, even = data.heldout.double(), likelihood(model, data.heldout.double(), seed=3)
    shared = allocated(likelihood, model, x[:4], seed=3)(model, x, seed=3)
    assert found["nats"].value == pytest.approx(-float(shared.nats.mean()), abs=1e-9)
    assert not torch.allclose(shared.nats, even.nats)


def test_the_error_of_the_steps_is_what_a_few_items_lack(tmp_path, monkeypatch):
    """By the known density, and to rounding by a whole measurement with twice the steps."""
    data, model = mixture(), ExactModel(mixture(), sde_named("vp"))
    x = data.sample(40, seed=1).float()
    of, exact = Dataset(x, x, Transform("table", (2,))), -data.log_prob(x.double())
    coarse, fine = (NegativeLogLikelihood("heun", "lambda", steps=k, bound_draws=0) for k in (6, 12))
    found, better = (metric(model, of, tmp_path / str(metric.steps)) for metric in (coarse, fine))
    same = {key: pytest.approx(value, abs=1e-9, nan_ok=True) for key, value in found.items()}
    with count_evaluations() as spent:
        assert replace(coarse, batch_size=3)(model, of, None) == same
    assert spent.samples <= 1.25 * 40 * found["likelihood_nfe"].value + 45  # the reconstruction takes one of each
    assert "nats_error_steps" not in replace(coarse, solver="adaptive_dopri5")(model, of, None)
    assert not fine.warnings(better)
    (warning,) = coarse.warnings(found)
    assert "metrics.likelihood.steps=12 " in warning
    added = found["nats_error_steps"]
    nats = [torch.from_numpy(np.load(tmp_path / k / "items.npz")["nats"]) for k in ("6", "12")]
    expected = scoresde.results.Measurement.mean((nats[1] - nats[0])[::8].tolist())
    assert (added.value, added.half) == pytest.approx((expected.value, expected.half), abs=1e-9)
    lacks = float((exact - nats[0])[::8].mean())
    assert abs(lacks) > 0.1
    assert 0.6 < added.value / lacks < 1.1
    assert "bits_error_steps" not in found
    monkeypatch.setattr(Likelihood, "__call__", None)
    assert coarse(model, of, tmp_path / "6") == same  # from the batches that are kept


def test_steps_have_no_error_for_the_gaussian_of_the_preconditioning():
    class Zero(nn.Module):
        def forward(self, x, c):
            return torch.zeros_like(x)

    model = ScoreModel(Zero(), sde_named("vp"), precond="edm")
    found = NegativeLogLikelihood(steps=3, bound_draws=0)(model, quantised(), None)
    for key in ("nats_error_steps", "bits_error_steps"):
        assert (found[key].value, found[key].half) == pytest.approx((0, 0), abs=1e-12)


def test_a_run_that_was_trained_on_cells_is_dequantised_uniformly():
    run = scoresde.load(Path(__file__).parent / "fixtures/d14582e/run")
    assert not run.dataset().dequantised
    run.config["trainer"]["dequantise"] = True
    assert run.dataset().dequantised
    model, levels, about = ExactModel(ONE, sde_named("vp")), quantised(4), {"steps": 4, "bound_draws": 0, "at": 0.01}
    cells = replace(levels, dequantised=True)
    auto, mine = (NegativeLogLikelihood("rk4", "lambda", **about)(model, data, None) for data in (levels, cells))
    for kind, found in (("truncated_normal", auto), ("uniform", mine)):
        typed = NegativeLogLikelihood("rk4", "lambda", dequantisation=kind, **about)
        assert typed(model, cells, None)["nats"] == found["nats"]
    latent = LatentQuality(steps=3, dequantise=True)(model, levels, None)
    assert LatentQuality(steps=3)(model, cells, None) == latent != LatentQuality(steps=3)(model, levels, None)
    assert mine["uniform_gap"] == auto["uniform_gap"]
    assert mine["nats"].value == pytest.approx(auto["nats"].value + auto["uniform_gap"].value)


def test_outliers_are_ranked_by_the_same_probabilities(tmp_path):
    model, data = ExactModel(ONE, sde_named("vp")), quantised()
    for dequantisation, at in (("truncated_normal", None), ("uniform", model.sde.t_train)):
        place = tmp_path / dequantisation
        about = {"dequantisation": dequantisation, "at": at, "bound_draws": 0}
        NegativeLogLikelihood("rk4", "lambda", steps=8, **about)(model, data, place)
        spread = replace(data, dequantised=at is not None)
        Outliers("rk4", "lambda", steps=8, n=12)(model, spread, place)
        ranked = np.load(place / "densities.npz")["held-out"]
        np.testing.assert_allclose(ranked, -np.load(place / "items.npz")["nats"], rtol=0, atol=1e-9)


def test_a_model_of_levels_has_their_shares_with_truncated_noise_and_not_with_uniform():
    data, sde = quantised(36), sde_named("vp")
    shares = torch.arange(1.0, 37.0, dtype=F64) / torch.arange(1.0, 37.0).sum()
    model = ExactModel(GaussianMixture(shares, data.heldout.double(), torch.zeros(36, 2, 2)), sde)
    found = NegativeLogLikelihood("dopri5", "lambda", steps=24)(model, data, None)
    entropy = -float(shares.log().mean())
    assert found["nats"].value == pytest.approx(entropy, abs=0.03)
    assert found["nats_bound"].value == pytest.approx(entropy, abs=found["nats_bound"].half + 0.02)
    assert found["uniform_gap"].value > 1
    assert 0 < found["reconstruction"].value < 0.05  # 3 standard deviations of the noise lie within a cell
    assert found["prior_mismatch"].value < 1e-3


def test_data_units_of_another_size_shift_nats_by_the_logarithm_of_their_volume():
    model, metric = ExactModel(mixture(), sde_named("vp")), NegativeLogLikelihood("dopri5", "lambda", steps=8)
    plain, scaled = (metric(model, continuous(scale), None) for scale in (1.0, (2.0, 5.0)))
    assert plain["nats"].value == pytest.approx(-float(mixture().log_prob(continuous().heldout).mean()), abs=0.02)
    for key in ("nats", "nats_bound"):
        assert scaled[key].value - plain[key].value == pytest.approx(math.log(10))
    assert "bits_per_dim" not in plain
    bound, strict = plain["nats_bound"], plain["nats"].value + plain["reconstruction"].value
    assert abs(bound.value - strict) < bound.half


def random(divergence=None, **changes):
    return NegativeLogLikelihood(solver="heun", steps=5, divergence=divergence or Hutchinson(2), draws=2, **changes)


def test_batches_change_nothing(tmp_path):
    data, model = quantised(), ExactModel(mixture(), sde_named("vp"))
    whole, small = (random(batch_size=k)(model, data, tmp_path / str(k)) for k in (12, 5))
    assert small == {key: pytest.approx(value, abs=1e-9, nan_ok=True) for key, value in whole.items()}
    assert whole["nats_error_probes"].value > 0
    with pytest.raises(InputError, match=r"out: .*parts of other items"):
        random(batch_size=5, seed=1)(model, data, tmp_path / "5")


def test_a_network_that_always_needs_a_class_gets_that_of_each_item():
    torch.manual_seed(0)
    net = ResidualMLP(event_shape=(2,), width=8, blocks=1, condition="class", condition_size=3, condition_dropout=0.0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    model, data = ScoreModel(net.eval(), sde_named("vp")), continuous()
    data.heldout_conditions = {"class": torch.tensor([2, 0, 1, 1, 0, 2, 2, 1, 0])}
    metric = NegativeLogLikelihood(steps=5, batch_size=4, bound_draws=2)
    given = metric(Conditioned(model, {"class": data.heldout_conditions["class"]}), data, None)
    assert metric(model, data, None) == given
    data.heldout_conditions = {"class": torch.zeros(9, dtype=torch.int64)}
    assert abs(metric(model, data, None)["nats"].value - given["nats"].value) > 1e-3
    data.heldout_conditions = {}
    with pytest.raises(InputError, match=r"class, which these data do not have"):
        metric(model, data, None)


def test_what_cannot_be_measured_is_one_line():
    model = ExactModel(mixture(), sde_named("vp"))
    for changes in ({"bits": True}, {"dequantisation": "uniform"}):
        with pytest.raises(InputError, match=r"dequantisation: .*not quantised.*nats.*give dequantisation=auto"):
            NegativeLogLikelihood(**changes)(model, continuous(), None)
    with pytest.raises(InputError, match=r"bits: .*give auto"):
        NegativeLogLikelihood(bits=True, dequantisation="none")
    each = Dataset(*[torch.zeros(3, 2)] * 2, Transform("table", (2,), 0.0, (1.0, 2.0), low=0.0, high=1.0, levels=2))
    with pytest.raises(InputError, match=r"one scale for all features"):
        NegativeLogLikelihood()(model, each, None)
    broken = continuous()
    broken.heldout[4, 0] = math.inf
    with pytest.raises(InputError, match=r"1 of 9 items.*number 4"):
        NegativeLogLikelihood(steps=5)(model, broken, None)


def test_a_chain_of_bits_has_its_bound_alone():
    bits = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    transform = Transform.of_bits((2,))

    class Exact(nn.Module):
        def forward(self, x, c):
            return torch.logit(((1 + exact(x, 0.5).x0) / 2).clamp(1e-6, 1 - 1e-6))

    exact = ExactBits(bits, sde_named("rectified"))
    chain = BinomialChain(Exact(), sde_named("rectified"), steps=20)
    found = NegativeLogLikelihood()(chain, Dataset(bits, bits, transform), None)
    assert set(found) == {"nats_bound", "bits_per_dim"}
    assert found["nats_bound"].value > math.log(2) - found["nats_bound"].half
    assert found["bits_per_dim"].value == pytest.approx(found["nats_bound"].value / (2 * math.log(2)))
    with pytest.raises(InputError, match=r"Gaussian path only"):
        NegativeLogLikelihood()(exact, Dataset(bits, bits, transform), None)


def test_a_run_is_evaluated_without_samples_and_its_items_are_kept(tmp_path):
    folder = Path(__file__).parent / "fixtures/d14582e/run"
    metric = NegativeLogLikelihood("dpmpp_2m", "lambda", Hutchinson(1), steps=3, n=4, bound_draws=2)
    results = scoresde.evaluate(folder, {"mine": metric}, folder=tmp_path)
    assert "nats" in {q.key for q in results.measured}
    assert math.isfinite(results.rows[0].values["nats"][0])
    assert len((tmp_path / "mine" / "items.csv").read_text().splitlines()) == 5
    (warning,) = (note for note in results.notes if note.startswith("Warning: "))
    page = (tmp_path / "report.html").read_text()
    assert ("negative log-likelihood" in page, page.count(html.escape(warning))) == (True, 1)
    assert warning in json.loads((tmp_path / "results.json").read_text())["verdict"]


def test_the_benchmark_of_dequantisation_runs(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import dequantise

    model, saved = ExactModel(ONE, sde_named("vp")), {}
    run = SimpleNamespace(model=model, sde=model.sde, event_shape=(2,), dataset=quantised)
    monkeypatch.setattr("scoresde.load", lambda path: run)
    monkeypatch.setattr("record.save", lambda name, content: saved.update(content))
    monkeypatch.setattr("sys.argv", ["dequantise", "RUN", "--n", "3", "--draws", "4", "--steps", "3", "--probes", "2"])
    dequantise.main()
    nats = {row["name"]: row["nats"].mean for row in saved["rows"]}
    at = next(name.partition(", t")[2] for name in nats if name.endswith("tau = 3"))
    assert nats[f"uniform, K = 4, t{at}"] < nats[f"uniform, K = 1, t{at}"] + 1
    assert len(nats) == 3 * 6 + 2 + 1
    assert capsys.readouterr().out.count("variational bound") == 6
