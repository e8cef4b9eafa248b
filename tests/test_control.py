"""Wrappers: one method is enough, at any depth, in any number of threads; evaluations are counted where they happen."""

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import product

import pytest
import torch
from support import PATHS, SOLVERS, exact_model, mixture, sde_named, solver_named
from torch import Tensor, nn

from scoresde import (
    SDE,
    Conditioned,
    InputError,
    Model,
    Prediction,
    Sampler,
    ScoreModel,
    Wrapper,
    count_evaluations,
)
from scoresde.evaluations import evaluating
from scoresde.nets import ResidualMLP
from scoresde.sampling import DDIM, Heun


class Same(Wrapper):
    """Says what the inner model says."""

    def forward(self, x: Tensor, t: float | Tensor, cond: Tensor | None = None) -> Prediction:
        return self.model(x, t, cond)


class Twice(Wrapper):
    """Asks twice."""

    def forward(self, x: Tensor, t: float | Tensor, cond: Tensor | None = None) -> Prediction:
        self.model(x, t, cond)
        return self.model(x, t, cond)


class Naive(Model):
    """A user's own model and wrapper that knows nothing of counting."""

    def __init__(self, sde: SDE, inner: Model | None = None) -> None:
        super().__init__(sde)
        self.inner = inner

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def forward(self, x: Tensor, t: float | Tensor, cond: Tensor | None = None) -> Prediction:
        return exact_model(self.sde)(x, t) if self.inner is None else self.inner(x, t)


def network(**settings: object) -> ScoreModel:
    torch.manual_seed(0)
    net = ResidualMLP((2,), width=16, blocks=1, **settings)  # type: ignore[arg-type]
    for weight in net.parameters():  # most begin at zero
        nn.init.normal_(weight, std=0.3)
    return ScoreModel(net, sde_named("vp"), sigma_data=0.7)


def drawn(model: Model, solver: str = "dpmpp_2m", n: int = 9, seed: int = 0, batch: int = 4) -> tuple[Tensor, float]:
    result = Sampler(solver_named(solver), steps=6).sample(model, (2,), n, seed=seed, batch_size=batch)
    return result.x, result.nfe


# ---- counting ----


def test_a_call_counts_its_samples_once_at_any_depth() -> None:
    x, exact = torch.randn(5, 2), exact_model(sde_named("vp"))
    naive = Naive(sde_named("vp"), Same(Naive(sde_named("vp"))))
    for model, each in ((exact, 1), (Same(Same(exact)), 1), (Twice(Same(Twice(exact))), 4), (naive, 1)):
        with count_evaluations() as spent:
            model(x, 0.3)
            model(x[:2], 0.3)
        assert spent.samples == 7 * each


def test_blocks_nest_and_end() -> None:
    model, x = Twice(exact_model(sde_named("vp"))), torch.randn(3, 2)
    model(x, 0.3)
    with count_evaluations() as outer:
        model(x, 0.3)
        with count_evaluations() as inner:
            model(x, 0.3)
        model(x, 0.3)
    model(x, 0.3)
    assert (outer.samples, inner.samples) == (18, 6)


def test_a_model_that_counts_within_is_itself_counted_by_its_inner_model() -> None:
    class Counting(Wrapper):
        def forward(self, x: Tensor, t: float | Tensor, cond: Tensor | None = None) -> Prediction:
            with count_evaluations() as self.spent:
                return self.model(x, t, cond)

    model = Counting(Twice(exact_model(sde_named("vp"))))
    with count_evaluations() as spent:
        model(torch.randn(3, 2), 0.3)
    assert spent.samples == model.spent.samples == 6


def test_a_call_that_raises_leaves_nothing_behind() -> None:
    model = exact_model(sde_named("vp"))
    with count_evaluations() as spent:
        with pytest.raises(InputError):
            Same(model)(torch.randn(3, 5), 0.3)
        Same(model)(torch.randn(3, 2), 0.3)
    assert spent.samples == 3


def test_threads_do_not_see_each_others_evaluations() -> None:
    model = Same(exact_model(sde_named("vp")))

    def spend(n: int) -> int:
        with count_evaluations() as spent:
            for _ in range(50):
                model(torch.randn(n, 2), 0.3)
        return spent.samples

    with count_evaluations() as outside, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(spend, range(1, 9))) == [50 * n for n in range(1, 9)]
    assert outside.samples == 0


def test_threads_that_share_a_block_add_up() -> None:
    """Their context is a copy of the same one, as asyncio.to_thread makes it."""
    model = Same(exact_model(sde_named("vp")))
    with count_evaluations() as spent, ThreadPoolExecutor(4) as pool:
        contexts = [copy_context() for _ in range(40)]
        list(pool.map(lambda c: c.run(model, torch.randn(3, 2), 0.3), contexts))
    assert spent.samples == 120


# ---- wrappers ----


def test_a_wrapper_is_what_it_wraps() -> None:
    model = network(condition="class", condition_size=3)
    model.event_shape = (2,)
    wrapped = Same(Twice(model))
    for name in ("sde", "sigma_data", "event_shape", "device", "cost", "conditions", "training"):
        assert getattr(wrapped, name) == getattr(model, name)
    assert wrapped.sde is model.sde
    wrapped.eval()
    assert not model.net.training
    wrapped.to(torch.float64)
    assert next(model.parameters()).dtype == torch.float64
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = wrapped.nothing


def test_conditions_are_checked_behind_a_wrapper() -> None:
    model = Same(Same(network(condition="class", condition_size=3)))
    with pytest.raises(InputError, match=r"3 .* classes from 0 to 2"):
        Conditioned(model, [0, 3])
    with pytest.raises(InputError, match="condition_dropout=0"):
        Conditioned(Same(network(condition="class", condition_size=3, condition_dropout=0.0)), 1, 2.0)


@pytest.mark.parametrize("solver", ["dpmpp_2m", "unipc_3", "heun_churn", "adaptive_bosh3", "ancestral", "auto"])
def test_wrapping_twice_changes_neither_samples_nor_counts(solver: str) -> None:
    model = network(condition="class", condition_size=3)
    labels = [0, 2, 1, 1]
    x, nfe = drawn(Conditioned(model, labels, 1.5), solver)
    for wrapped in (Same(Conditioned(model, labels, 1.5)), Conditioned(Same(model), labels, 1.5)):
        other, spent = drawn(Same(wrapped), solver)
        assert torch.equal(other, x)
        assert spent == nfe
    assert drawn(Conditioned(Twice(model), labels, 1.5), solver)[1] == 2 * nfe


def copied(model: Model) -> Model:
    return copy.deepcopy(model)


def pickled(model: Model) -> Model:
    return pickle.loads(pickle.dumps(model))


def saved(model: Model) -> Model:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.copy, copied, pickled, saved])
def test_wrappers_can_be_copied(copied: object) -> None:
    model = Same(Conditioned(Same(network(condition="class", condition_size=3)), [0, 2], 1.5))
    again = copied(model)  # type: ignore[operator]
    assert torch.equal(drawn(again)[0], drawn(model)[0])
    assert drawn(again)[1] == drawn(model)[1]


@pytest.mark.parametrize(("sde", "solver"), [*product(["vp"], SOLVERS), *product(PATHS, ["euler_maruyama"])])
def test_sampling_in_inference_mode_is_the_same(sde: str, solver: str) -> None:
    torch.manual_seed(0)
    rule = solver_named(solver, **({"rtol": 0.05, "atol": 0.05} if solver == "adaptive_sde" else {}))
    sampler, net = Sampler(rule, steps=5), ResidualMLP((2,), width=16, blocks=1)
    results = []
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            model = Same(ScoreModel(net, copy.deepcopy(sde_named(sde))))
            model.sde._levels.clear()  # what was computed before is not asked for
            results.append(sampler.sample(model, (2,), 4))
    assert torch.equal(results[0].x, results[1].x)
    assert results[0].nfe == results[1].nfe


@pytest.mark.parametrize("solver", ["dpmpp_2m", "adaptive_bosh3", "euler_maruyama"])
def test_threads_draw_what_each_draws_alone(solver: str) -> None:
    model = Conditioned(network(condition="class", condition_size=3, dropout=0.5).train(), [0, 2, 1], 1.5)
    alone = {k: drawn(model, solver, 200, k, 100) for k in range(4)}
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            jobs = {k: pool.submit(drawn, model, solver, 200, k, 100) for k in range(4)}
            for k, job in jobs.items():
                x, nfe = job.result()
                torch.testing.assert_close(x, alone[k][0], rtol=0, atol=1e-5)
                assert nfe == alone[k][1]
    assert model.training
    assert model.model.net.training


# ---- evaluation mode ----


class Mixed(nn.Module):
    """A network of which a part is frozen while the rest trains; its mode is more than a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.line, self.drop, self.switched = nn.BatchNorm1d(2), nn.Linear(2, 2), nn.Dropout(0.5), 0

    def train(self, mode: bool = True) -> "Mixed":
        self.switched += 1 if mode else -1
        return super().train(mode)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.drop(self.line(self.norm(x)))


def test_sampling_leaves_every_part_in_its_mode() -> None:
    net = Mixed()
    model = ScoreModel(net, sde_named("vp")).train()
    net.norm.eval()
    before, switched = {k: m.training for k, m in model.named_modules()}, net.switched
    a, b = (Sampler(DDIM(), steps=3).sample(model, (2,), 4).x for _ in range(2))
    assert torch.equal(a, b)
    assert {k: m.training for k, m in model.named_modules()} == before
    assert net.switched == switched


def test_a_module_returns_to_its_mode_when_the_last_block_ends() -> None:
    model = ScoreModel(Mixed(), sde_named("vp")).train()
    first, second = evaluating(model), evaluating(Same(model))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(m.training for m in model.modules())
    second.__exit__(None, None, None)
    assert all(m.training for m in model.modules())


def test_a_sampler_that_fails_leaves_no_trace() -> None:
    model = Same(exact_model(sde_named("vp"), mixture())).train()
    with pytest.raises(InputError), count_evaluations() as spent:
        Sampler(Heun(), steps=3).sample(model, (5,), 4)
    assert model.training
    assert spent.samples == 0
