"""Which noise levels a batch visits: evenly spread, and by importance; the expectation of the loss stays what it is."""

import dataclasses
import math
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from support import built, options
from test_training_step import _Copies
from torch import Tensor
from training_job import assert_same, fit, last, model_and_optimizer, moons, resume, rows

from scoresde import VPSDE, ExactModel, GaussianMixture, InputError, ScoreModel
from scoresde._shapes import Coefficient
from scoresde.loss import Batch, DenoisingScoreMatching, LossTerms
from scoresde.loss.levels import LossHistory, stratified
from scoresde.noise import Noise
from scoresde.precond import Preconditioning, coefficients
from scoresde.training import Trainer
from scoresde.training.batches import Batches
from scoresde.training.ema import Averages
from scoresde.training.heldout import heldout_loss
from scoresde.training.step import Step
from scoresde.training.window import Window


def filled(root_mean_square: Any, batches: int = 40, size: int = 1024) -> LossHistory:
    """A history of losses that at u are root_mean_square(u) times a number of second moment 1."""
    history = LossHistory()
    for k in range(batches):
        u, _ = history.draw(stratified(Noise(3).uniform("u", k, size)))
        spread = Noise(3).normal("loss", k, (size,), dtype=torch.float64)
        history.update(u, root_mean_square(u) * spread)
    return history


SHAPES = {
    "flat": lambda u: torch.ones_like(u),
    "falling": lambda u: torch.exp(-6 * u),
    "peaked": lambda u: 0.01 + torch.exp(-(((u - 0.3) / 0.02) ** 2)),
    "steps": lambda u: torch.where(u < 0.5, 1.0, 1e-6),
}


# ---- stratified ----


def test_a_stratified_batch_visits_every_part_once_and_each_uniformly() -> None:
    # of each batch one item, always another: such draws are independent and pass through all parts
    batches = [stratified(Noise(1).uniform("u", k, 50)) for k in range(1000)]
    for batch in batches:
        assert sorted((50 * batch).long().tolist()) == list(range(50))
    chosen = torch.stack([batch[k % 50] for k, batch in enumerate(batches)])
    assert stats.kstest(chosen.numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("n", [1, 3, 49, 4096, 10**6])
def test_the_ends_of_a_stratified_batch_stay_in_the_unit_interval(n: int) -> None:
    for end in (0.0, 1 - 2.0**-53):
        u = stratified(torch.full((n,), end, dtype=torch.float64))
        assert 0 <= u.min() <= u.max() < 1


def test_the_variance_of_a_stratified_mean_falls_with_the_third_power() -> None:
    # Var = int f'^2 du / (12 B^3): for f = e^u the integral is (e^2 - 1) / 2
    for size in (8, 64):
        means = torch.stack([stratified(Noise(2).uniform("u", k, size)).exp().mean() for k in range(4000)])
        expected = (math.e**2 - 1) / 2 / 12 / size**3
        assert means.var().item() == pytest.approx(expected, rel=0.1)
        assert abs(means.mean().item() - (math.e - 1)) < 4 * math.sqrt(expected / 4000)


def test_a_training_steps_levels_are_stratified_over_the_whole_batch() -> None:
    seen: list[Tensor] = []

    class Watched(DenoisingScoreMatching):
        def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
            seen.append(batch.u)
            return super().__call__(model, batch)

    for spread in (True, False):
        step = _step(Watched(stratified=spread))
        seen.clear()
        with torch.random.fork_rng([]):
            for k in range(3):
                step(k)
        visited = [sorted((32 * u).long().tolist()) == list(range(32)) for u in seen]
        assert visited == [spread] * 3
        u = seen[1] * 32 % 1 if spread else seen[1]
        torch.testing.assert_close(u, Noise(7).uniform("time", 1, 32), rtol=0, atol=1e-14)


def test_heldout_items_are_assigned_to_the_parts_by_a_permutation() -> None:
    seen: list[Tensor] = []

    class Watched(DenoisingScoreMatching):
        def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
            seen.append(batch.u)
            return super().__call__(model, batch)

    heldout_loss(Watched(), model_and_optimizer()[0].eval(), moons().heldout, 16)
    orders = {tuple((16 * u).long().tolist()) for u in seen}
    assert len(orders) == len(seen) == 32
    assert all(sorted(order) == list(range(16)) for order in orders)


# ---- importance ----


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_leave_every_expectation_as_it_is(shape: str) -> None:
    # the integral over v of weight(v) f(u(v)) is that of f: piecewise smooth, so Gauss-Legendre between the kinks
    history = filled(SHAPES[shape])
    widths = history.density() * history.edges.diff()
    ends = torch.cat([torch.zeros(1, dtype=torch.float64), widths.cumsum(0)])
    nodes, mass = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(12))
    v = (ends[:-1, None] + widths[:, None] * (nodes + 1) / 2).flatten()
    dv = (widths[:, None] * mass / 2).flatten()
    u, weight = history.draw(v)
    for f in (torch.ones_like, torch.sin, lambda u: u**5, lambda u: torch.exp(-20 * u), lambda u: 1 / (u + 0.01)):
        expected = integrate.quad(lambda x, f=f: float(f(torch.tensor(x, dtype=torch.float64))), 0, 1, epsabs=1e-13)[0]
        assert (dv * weight * f(u)).sum().item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_have_the_density_and_stay_in_order(shape: str) -> None:
    history = filled(SHAPES[shape])
    u, weight = history.draw(Noise(4).uniform("v", 0, 20_000))
    masses = history.density() * history.edges.diff()
    assert masses.sum().item() == pytest.approx(1)
    cdf = torch.cat([torch.zeros(1, dtype=torch.float64), masses.cumsum(0)]).numpy()
    assert stats.kstest(u.numpy(), lambda x: np.interp(x, history.edges.numpy(), cdf)).pvalue > 0.01
    assert weight.max() <= 10 + 1e-9  # the share of the density of the loss itself bounds them
    ends, _ = history.draw(torch.tensor([0.0, 0.25, 0.5, 1 - 2.0**-53], dtype=torch.float64))
    assert 0 <= ends[0] < ends[1] < ends[2] < ends[3] < 1


@pytest.mark.parametrize("shape", ["falling", "steps"])
def test_the_density_is_that_of_least_variance(shape: str) -> None:
    # the second moment of w L is int m / q du; by Cauchy-Schwarz no density goes below (int sqrt(m) du)^2
    history = filled(SHAPES[shape], batches=200)
    centres, widths = (history.edges[1:] + history.edges[:-1]) / 2, history.edges.diff()
    second, q = SHAPES[shape](centres) ** 2, history.density()
    least, before = (widths * second.sqrt()).sum() ** 2, (widths * second).sum()
    assert least < 0.6 * before
    assert (widths * second / ((q - 0.1) / 0.9)).sum() < 1.02 * least  # the share that follows the history
    assert (widths * second / q).sum() < least / 0.9


def test_importance_lowers_the_variance_without_bias() -> None:
    # with an exact score in many dimensions the loss at a given level hardly varies, but its mean does, from 1 to 0
    data = GaussianMixture([1.0], torch.zeros(1, 64), torch.eye(64)[None])
    model, loss = _Guess(data), DenoisingScoreMatching()
    history, found = LossHistory(), {}
    for k in range(40):
        u, _ = history.draw(stratified(Noise(0).uniform("warm", k, 256)))
        history.update(u, _losses(model, loss, data, u, k))
    for spread in (False, True):
        for importance in (False, True):
            means = []
            for k in range(300):
                v = Noise(1).uniform("v", k, 64)
                v = stratified(v) if spread else v
                u, weight = history.draw(v) if importance else (v, torch.ones(64))
                means.append((weight * _losses(model, loss, data, u, 1000 + k)).mean())
            found[spread, importance] = torch.stack(means).double()
    variance = {key: value.var().item() for key, value in found.items()}
    assert variance[False, True] < 0.2 * variance[False, False]
    assert variance[True, False] < 0.1 * variance[False, False]
    assert variance[True, True] < 0.9 * min(variance[False, True], variance[True, False])
    exact = found[True, True]
    for values in found.values():
        error = math.sqrt((values.var().item() + exact.var().item()) / 300)
        assert abs(values.mean().item() - exact.mean().item()) < 4 * error


class _Guess(ExactModel):
    """An exact model where a loss wants a network: its output under the preconditioning eps, which is eps itself."""

    sigma_data = 1.0

    def __init__(self, data: GaussianMixture) -> None:
        super().__init__(data, VPSDE())

    def preconditioning(self, alpha: Coefficient, sigma: Coefficient, lam: Coefficient) -> Preconditioning:
        return coefficients("eps", alpha, sigma, lam, 1.0)

    def halves(self, x: Tensor, c: Any, cond: Tensor | None = None) -> tuple[Tensor, None]:
        t = self.sde.t_of_lam(-4 * c.c_noise)
        return self(x, t).eps, None


def _losses(model: Any, loss: DenoisingScoreMatching, data: GaussianMixture, u: Tensor, k: int) -> Tensor:
    x0 = data.sample(len(u), k)
    return loss(model, Batch(x0, u, Noise(5).normal("eps", k, x0.shape, dtype=x0.dtype))).loss


def test_until_every_bin_is_known_the_density_is_that_of_the_loss() -> None:
    history, v = LossHistory(), Noise(0).uniform("v", 0, 100)
    for k in range(20):
        u, weight = history.draw(v)
        torch.testing.assert_close(u, v, rtol=0, atol=1e-15)
        assert torch.equal(weight, torch.ones_like(weight))
        half = stratified(Noise(1).uniform("u", k, 5000)) / 2  # the upper half is never seen
        history.update(half, torch.exp(half))
    u = stratified(Noise(1).uniform("u", 99, 20_000))
    history.update(u, torch.exp(u))
    assert not torch.equal(history.draw(v)[1], torch.ones_like(v))


def test_the_history_and_its_density_are_those_of_the_formulas() -> None:
    edges = (1 - torch.cos(torch.arange(33, dtype=torch.float64) * math.pi / 32)) / 2
    centres, loss = (edges[1:] + edges[:-1]) / 2, 1 + torch.arange(32, dtype=torch.float64)
    history = LossHistory()
    torch.testing.assert_close(history.edges, edges, rtol=0, atol=1e-15)
    history.update(centres.repeat(9), loss.repeat(9))
    assert torch.equal(history.density(), torch.ones(32, dtype=torch.float64))  # of ten items that are wanted, nine
    history.update(centres.repeat(2), 2 * loss.repeat(2))
    left = 9 * (1 - 1 / 128) ** 2
    expected = torch.stack((torch.full((32,), left + 2, dtype=torch.float64), (left + 8) * loss**2), dim=1)
    torch.testing.assert_close(history.sums, expected)
    torch.testing.assert_close(history.density(), 0.9 * loss / (edges.diff() * loss).sum() + 0.1)
    other = LossHistory()
    other.update(centres.repeat(10), loss.repeat(10))  # and ten are enough
    torch.testing.assert_close(other.density(), history.density())


def test_losses_of_zero_do_no_harm() -> None:
    history = filled(torch.zeros_like)
    u, weight = history.draw(Noise(0).uniform("v", 0, 100))
    assert torch.isfinite(u).all()
    assert torch.equal(weight, torch.ones_like(weight))


def test_losses_that_are_not_finite_leave_no_trace() -> None:
    history, other = filled(SHAPES["falling"]), filled(SHAPES["falling"])
    u, loss = stratified(Noise(0).uniform("u", 0, 300)), Noise(0).normal("loss", 0, (300,), dtype=torch.float64)
    kept = torch.arange(300) % 3 > 0
    history.update(u, torch.where(kept, loss, torch.where(torch.arange(300) % 2 > 0, math.nan, math.inf)))
    other.update(u[kept], loss[kept])
    torch.testing.assert_close(history.sums, other.sums)


def test_the_history_forgets() -> None:
    history = filled(SHAPES["falling"], batches=200)
    assert history.density()[0] > 2
    for k in range(500):
        u, _ = history.draw(stratified(Noise(6).uniform("u", k, 2048)))
        history.update(u, SHAPES["falling"](1 - u))
    assert history.density()[0] < 0.2
    assert history.density()[-1] > 2


def test_the_order_of_a_batch_and_its_parts_do_not_matter() -> None:
    u, loss = Noise(0).uniform("u", 0, 1000), Noise(0).normal("loss", 0, (1000,), dtype=torch.float64)
    one, other = LossHistory(), LossHistory()
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    one.update(u, loss)
    other.update(u[order], loss[order])
    torch.testing.assert_close(one.sums, other.sums)
    assert one.sums[:, 0].sum() == 1000  # the first items are not discounted yet


# ---- in a training ----


def _step(loss: DenoisingScoreMatching, batch: int = 32, seed: int = 7, micro_batch: int | None = None) -> Step:
    model, optimizer = model_and_optimizer()
    averages, batches = Averages(model, [0.999]), Batches(moons().train, seed, torch.device("cpu"))
    settings = Trainer(batch_size=batch, clip=0.0, warmup=0, schedule="constant", micro_batch=micro_batch)
    return Step(model, averages, optimizer, loss, batches, settings, seed)


@pytest.mark.parametrize("micro_batch", [None, 8])
def test_the_gradient_of_a_step_is_that_of_the_weighted_loss(micro_batch: int | None) -> None:
    loss = DenoisingScoreMatching(weight="likelihood", importance=True)
    step = _step(loss, micro_batch=micro_batch)
    assert step.history is not None
    step.history.load(filled(SHAPES["falling"]).state())
    before = step.history.sums.clone()
    model, _ = model_and_optimizer()  # the same weights once more
    batch, _, seeds = step.draw(0, 0)
    u, weight = step.history.draw(batch.u)
    batch = dataclasses.replace(batch, u=u)
    with torch.random.fork_rng([]):
        values = torch.empty(len(u))
        for part, seed in enumerate(seeds):  # each with its own dropout
            mine = range(part, 32, len(seeds))
            torch.default_generator.manual_seed(seed)
            values[list(mine)] = loss(model, batch.part(mine)).loss
        (weight.float() * values).mean().backward()
        gradients = [p.grad for p in model.parameters()]
        step(0)
    norm = torch.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    logged, _ = step.window.summary()
    assert logged["gradient_norm"] == pytest.approx(norm.item(), rel=1e-5)
    assert logged["loss"] == pytest.approx((weight * values).mean().item(), rel=1e-6)
    assert weight.std() > 0.5  # or it would say nothing
    history = LossHistory()
    history.load({"sums": before})
    history.update(u, values)
    torch.testing.assert_close(history.sums, step.history.sums, rtol=1e-6, atol=0)


def test_a_step_with_importance_never_waits_for_the_device() -> None:
    step = _step(DenoisingScoreMatching(importance=True))
    step._on_host = False  # as on an accelerator
    with torch.random.fork_rng([]):
        step(0)
        with _Copies() as copies:
            for k in range(1, 5):
                step(k)
    assert copies.seen == []


def test_logged_values_are_those_of_the_density_of_the_loss() -> None:
    # a loss that is a known function of the level, seen through two densities
    sde, n = VPSDE(), 1_000_000
    t = sde.t_train + (sde.T - sde.t_train) * stratified(torch.full((n,), 0.5))
    ends = sde.lam(torch.tensor([sde.T, sde.t_train], dtype=torch.float64)).tolist()
    plain, weighted = Window(ends), Window(ends)
    plain.add(LossTerms(t**2, sde.lam(t)), torch.tensor(0.0))
    history = filled(SHAPES["falling"])
    u, weight = history.draw(stratified(torch.full((n,), 0.5)))
    t = sde.t_train + (sde.T - sde.t_train) * u
    weighted.add(LossTerms(t**2, sde.lam(t)), torch.tensor(0.0), weight)
    one, other = plain.summary()[0], weighted.summary()[0]
    assert one.keys() == other.keys()
    for key in one:
        assert other[key] == pytest.approx(one[key], rel=0.02), key


@pytest.mark.parametrize("stop", [10, 20])
def test_a_resumed_training_with_importance_is_the_same_to_the_bit(stop: int, tmp_path: Path) -> None:
    loss = DenoisingScoreMatching(weight="likelihood", importance=True)
    settings: dict[str, Any] = {"loss": loss, "batch_size": 512}  # warm before the first stop
    fit(tmp_path / "whole", **settings)
    fit(tmp_path / "parts", steps=stop, schedule="constant", **settings)
    fit(tmp_path / "straight", schedule="constant", **settings)
    resume(tmp_path / "parts", schedule="constant", **settings)
    one, other = last(tmp_path / "straight"), last(tmp_path / "parts")
    assert_same(one, other)
    assert torch.equal(one.modules["history"]["sums"], other.modules["history"]["sums"])
    plain = {**settings, "loss": DenoisingScoreMatching(weight="likelihood")}
    fit(tmp_path / "plain", schedule="constant", **plain)
    assert "history" not in last(tmp_path / "plain").modules
    assert rows(tmp_path / "plain") != rows(tmp_path / "straight")  # it was at work


def test_importance_may_begin_and_end_at_a_resume(tmp_path: Path) -> None:
    fit(tmp_path, steps=10, schedule="constant", batch_size=512)
    resume(tmp_path, steps=30, schedule="constant", batch_size=512, loss=DenoisingScoreMatching(importance=True))
    sums = last(tmp_path, 30).modules["history"]["sums"]
    assert sums[:, 0].min() > 10
    resume(tmp_path, steps=32, schedule="constant", batch_size=512)
    assert "history" not in last(tmp_path, 32).modules


@pytest.mark.parametrize(
    "name", [n for n in options("loss") if "importance" in signature(type(built("loss", n))).parameters]
)
def test_the_files_offer_it(name: str) -> None:
    assert not built("loss", name).importance
    assert built("loss", name, importance=True).importance
    with pytest.raises(InputError, match="importance: 'often' is not true or false"):
        built("loss", name, importance="often")
