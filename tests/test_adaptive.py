"""Adaptive solvers: errors follow the tolerance, and every sample has steps of its own."""

import numpy as np
import pytest
import torch
from scipy.integrate import RK23, RK45
from support import PATHS, exact_flow, exact_model, gaussian, sde_named
from torch import nn

from scoresde import InputError, Model, Prediction, Sampler, ScoreModel, count_evaluations
from scoresde.noise import Noise
from scoresde.sampling import AdaptiveExponential, AdaptiveRungeKutta, AdaptiveSDE, Langevin, SciPy, TorchDiffEq
from scoresde.sampling.adaptive import Increments

RULES = {
    "bosh3": lambda tol: AdaptiveRungeKutta(tol, tol),
    "bosh3 noise_share": lambda tol: AdaptiveRungeKutta(tol, tol, variable="noise_share"),
    "bosh3 time": lambda tol: AdaptiveRungeKutta(tol, tol, variable="time"),
    "dopri5": lambda tol: AdaptiveRungeKutta(tol, tol, pair="dopri5"),
    "exponential x0": lambda tol: AdaptiveExponential(tol, tol),
    "exponential eps": lambda tol: AdaptiveExponential(tol, tol, predict="eps"),
}
FIRST, LAST = -2.0, 1.5


def start(n=8):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def arrive(solver, model, x, first=FIRST, last=LAST):
    times = model.sde.t_of_lam(torch.tensor([first, last], dtype=torch.float64))
    *_, (_, x) = solver.integrate(model, times, x, Noise(0))
    return x


@pytest.mark.parametrize("sde", ["vp", "ve", "rectified"])
@pytest.mark.parametrize("name", RULES)
def test_error_follows_the_tolerance(name, sde):
    model = exact_model(sde_named(sde))
    level = model.sde.at(float(model.sde.t_of_lam(FIRST)))
    x = start() * (level.alpha**2 + level.sigma**2) ** 0.5
    exact = exact_flow(model, x, torch.tensor([FIRST, LAST], dtype=torch.float64))[-1]
    errors = [float((arrive(RULES[name](tol), model, x) - exact).abs().max()) for tol in (1e-4, 1e-7)]
    assert errors[0] < 100 * 1e-4
    assert errors[1] < 100 * 1e-7


@pytest.mark.parametrize("name", RULES)
def test_cost_follows_the_order(name):
    """Steps grow as tolerance^(-1/p): 3 for the pairs of order 3 (2), where the error of order 2 steers, 5 (4)."""
    model, evaluations = exact_model(sde_named("vp")), []
    for tol in (1e-5, 1e-8):
        with count_evaluations() as spent:
            arrive(RULES[name](tol), model, start())
        evaluations.append(spent.samples)
    growth = np.log10(evaluations[1] / evaluations[0]) / 3
    assert growth == pytest.approx(1 / RULES[name](1.0).order, abs=0.06)


@pytest.mark.parametrize("name", RULES)
def test_a_hard_sample_costs_an_easy_one_nothing(name):
    """The batch spends what its samples spend alone, and no more."""
    model, solver = exact_model(sde_named("vp")), RULES[name](1e-6)
    x = start(4) * torch.tensor([[0.1], [1.0], [1.0], [30.0]], dtype=torch.float64)
    alone = []
    for k in range(4):
        with count_evaluations() as spent:
            arrive(solver, model, x[k : k + 1])
        alone.append(spent.samples)
    with count_evaluations() as together:
        arrive(solver, model, x)
    assert together.samples == sum(alone)
    assert max(alone) > min(alone)


def test_law_of_the_adaptive_sde():
    """Mean and covariance of 20,000 samples, within five standard errors and what the tolerance leaves."""
    model, n = exact_model(sde_named("vp"), gaussian()), 20_000
    x = Sampler(AdaptiveSDE(1e-2, 1e-2)).sample(model, (2,), n, batch_size=n, dtype=torch.float64).x
    covariance = model.data.axes[0] @ torch.diag(model.data.variances[0]) @ model.data.axes[0].T
    torch.testing.assert_close(x.mean(0), model.data.means[0], rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(x.T), covariance, rtol=0, atol=0.04)


def test_without_noise_the_adaptive_sde_is_the_ode():
    model = exact_model(sde_named("vp"))
    exact = exact_flow(model, start(), torch.tensor([FIRST, LAST], dtype=torch.float64))[-1]
    assert float((arrive(AdaptiveSDE(1e-5, 1e-5, eta=0.0), model, start()) - exact).abs().max()) < 1e-3


def test_a_model_that_returns_nan_is_named_with_the_time():
    class Broken(nn.Module):
        def forward(self, x, c):
            return x * float("nan")

    for solver in (AdaptiveRungeKutta(), AdaptiveExponential(), AdaptiveSDE()):
        with pytest.raises(InputError, match="is stuck at t = 1; the model returns NaN there"):
            Sampler(solver).sample(ScoreModel(Broken(), sde_named("vp")), (2,), n=3)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: AdaptiveRungeKutta(rtol=0.0), "rtol: 0.0"),
        (lambda: AdaptiveRungeKutta(pair="rk45"), "pair: 'rk45'"),
        (lambda: AdaptiveExponential(predict="v"), "predict: 'v'"),
        (lambda: AdaptiveSDE(eta=-1.0), "eta: -1.0"),
        (lambda: Sampler(AdaptiveRungeKutta(), eta=0.5), "eta: 0.5 is not possible"),
        (lambda: Sampler(AdaptiveRungeKutta(), corrector=Langevin()), "allows no corrector"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError, match=text):
        make()


def controlled(solver, exponents, model, x, first, last):
    """All lam at which one sample is after each attempt, by the controller as its classes describe it."""
    a, b = exponents
    lam, before, path, t = first, 1.0, [], model.sde.t_of_lam(torch.tensor([first], dtype=torch.float64))
    known, parts = solver.evaluate(model, x, t), model(x, float(t))
    bend = torch.minimum((model.sde.alpha(t) * parts.x0).abs(), (model.sde.sigma(t) * parts.eps).abs())
    size = float((bend / (solver.atol + solver.rtol * x.abs())).square().mean().sqrt())
    h = np.sign(last - first) * min((0.01 / size) ** (1 / (solver.order + 1)), 1.0)
    while abs(last - lam) > 1e-12:
        h = h if abs(h) < abs(last - lam) else last - lam
        at, step = (torch.tensor([v], dtype=torch.float64) for v in (lam, h))
        known = solver.evaluate(model, x, model.sde.t_of_lam(at)) if known is None else known
        trial = solver.attempt(model, x, at, step, known, None)
        scale = solver.atol + solver.rtol * torch.maximum(x.abs(), trial.x.abs())
        error = float((trial.error / scale).square().mean().sqrt())
        factor = float(np.clip(0.9 * error**-a * before**b, 0.2, 2.0))
        if error <= 1:
            lam, x, known, before = lam + h, trial.x, trial.first, max(error, 1e-4)
        h *= factor
        path.append(lam)
    return path


@pytest.mark.parametrize(
    ("rtol", "atol", "first", "last", "size"),
    [(1e-5, 1e-2, -3, 2, 20), (1e-2, 1e-5, -3, 2, 20), (1e-3, 1e-4, 2, -3, 1), (1, 1, 4.5, -3, 1)],
)
@pytest.mark.parametrize(
    ("make", "exponents"),
    [
        (lambda rtol, atol: AdaptiveRungeKutta(rtol, atol), (0.7 / 3, 0.4 / 3)),
        (lambda rtol, atol: AdaptiveRungeKutta(rtol, atol, pair="dopri5"), (0.7 / 5, 0.4 / 5)),
        (lambda rtol, atol: AdaptiveExponential(rtol, atol), (1 / 3, 0)),
        (lambda rtol, atol: AdaptiveSDE(rtol, atol, eta=0.0), (0.9, 0)),
    ],
)
def test_steps_are_those_of_the_controller(make, exponents, rtol, atol, first, last, size):
    """Alone each sample is where the formulas put it; together the one that is farthest behind gives the time."""
    model, solver = exact_model(sde_named("ve")), make(rtol, atol)
    times = model.sde.t_of_lam(torch.tensor([first, last], dtype=torch.float64))
    ends = [float(lam) for lam in model.sde.lam(times)]
    x, paths = size * start(2), []
    for k in range(2):
        found = [t for t, _ in solver.integrate(model, times, x[k : k + 1], Noise(0))]
        paths.append(controlled(solver, exponents, model, x[k : k + 1], *ends))
        lams = [float(model.sde.lam(t)) for t in found]
        assert lams == pytest.approx(paths[-1], abs=1e-9)
    assert paths[0] != paths[1] or abs(paths[0][0] - first) == pytest.approx(1)
    farthest = min if first < last else max
    behind = [farthest(path[min(k, len(path) - 1)] for path in paths) for k in range(max(map(len, paths)))]
    together = [float(model.sde.lam(t)) for t, _ in solver.integrate(model, times, x, Noise(0))]
    assert together == pytest.approx(behind, abs=1e-9)


def test_one_sample_that_is_stuck_is_said_at_once():
    class Broken(type(exact_model(sde_named("vp")))):
        def forward(self, x, t, cond=None):
            return super().forward(torch.where(x.abs() > 5, torch.nan, x), t)

    model = Broken(exact_model(sde_named("vp")).data, sde_named("vp"))
    x = torch.tensor([[0.1, 0.2], [9.0, 0.3]], dtype=torch.float64)
    with count_evaluations() as spent, pytest.raises(InputError, match="is stuck at t ="):
        arrive(AdaptiveRungeKutta(), model, x)
    assert spent.samples == 2 * 4  # of the first attempt


def test_a_split_increment_has_the_law_of_two():
    """Rejected once and then twice: the three parts are independent, with the variances of their spans of time."""
    sde, n = sde_named("vp"), 100_000
    x = torch.zeros(n, 1, dtype=torch.float64)
    lam, h = torch.full((n,), -1.0, dtype=torch.float64), torch.full((n,), 0.8, dtype=torch.float64)
    steps, numbers = Increments(sde, x), iter(range(100))

    def draw():
        return Noise(2).normal("p", next(numbers), x.shape, "cpu", torch.float64)

    yes = torch.ones(n, dtype=torch.bool)
    taken = []
    for answer in (~yes, ~yes, yes, yes, yes):
        width, w = steps.propose(lam, h, x, draw)
        steps.settle(answer, lam, width, w, draw)
        if answer.all():
            taken.append((float(sde.t_of_lam(lam[0]) - sde.t_of_lam(lam[0] + width[0])), w[:, 0], float(width[0])))
            lam = lam + width
    assert [width for _, _, width in taken] == pytest.approx([0.2, 0.2, 0.4])
    spans = torch.tensor([span for span, _, _ in taken])
    scaled = torch.stack([w for _, w, _ in taken]) / spans.sqrt()[:, None]
    torch.testing.assert_close(torch.cov(scaled), torch.eye(3, dtype=torch.float64), rtol=0, atol=0.02)


def at_a_step(n=5):
    """x, lam and a step towards data of each sample, in the middle of the path."""
    lam = torch.linspace(-1.0, 0.5, n, dtype=torch.float64)
    return start(n), lam, torch.linspace(0.3, 0.5, n, dtype=torch.float64)


@pytest.mark.parametrize(("pair", "peer"), [("bosh3", RK23), ("dopri5", RK45)])
def test_the_error_of_a_pair_is_that_of_scipy(pair, peer):
    """One step of each sample on dy/dr = eps, with scipy's tableau and its weights of the error."""
    model, solver, (x, lam, h) = exact_model(sde_named("ve")), AdaptiveRungeKutta(pair=pair), at_a_step()
    r, s = torch.exp(-lam), torch.exp(-lam - h)

    def slope(y, r):
        return model(y, model.sde.t_of_lam(-torch.log(r))).eps

    k = [slope(x, r)]
    for c, a in zip(peer.C[1:], peer.A[1:], strict=True):
        moved = x + (s - r)[:, None] * sum(w * one for w, one in zip(a, k, strict=False))
        k.append(slope(moved, r + c * (s - r)))
    end = x + (s - r)[:, None] * sum(w * one for w, one in zip(peer.B, k, strict=True))
    error = (s - r)[:, None] * sum(w * one for w, one in zip(peer.E, [*k, slope(end, s)], strict=True))
    trial = solver.attempt(model, x, lam, h, solver.evaluate(model, x, model.sde.t_of_lam(lam)), None)
    torch.testing.assert_close(trial.x, end)
    torch.testing.assert_close(trial.error.abs(), error.abs())


def test_the_error_of_the_exponential_rule_is_its_distance_to_that_of_order_two():
    """The step with the line through the first two values of x0, at h = 0 and h / 3, its integral by quadrature."""
    model, solver, (x, lam, h) = exact_model(sde_named("vp")), AdaptiveExponential(), at_a_step()
    sde, u = model.sde, torch.linspace(0, 1, 20001, dtype=torch.float64)

    def moved(part, *values):
        """x_s / sigma_s = x_t / sigma_t + int e^lam x0 dlam, x0 the line through its values at 0 and h / 3."""
        at, step = sde.t_of_lam(lam + part * h), part * h
        line = values[0][:, :, None] + (values[-1] - values[0])[:, :, None] * 3 * part * u
        kernel = torch.exp(lam[:, None] + step[:, None] * u) * step[:, None]
        change = torch.trapezoid(kernel[:, None, :] * line, u)
        return sde.sigma(at)[:, None] * (x / sde.sigma(sde.t_of_lam(lam))[:, None] + change)

    first = model(x, sde.t_of_lam(lam)).x0
    second = model(moved(1 / 3, first), sde.t_of_lam(lam + h / 3)).x0
    trial = solver.attempt(model, x, lam, h, first, None)
    torch.testing.assert_close(trial.x - moved(1.0, first, second), trial.error, rtol=1e-6, atol=1e-9)


def test_the_error_of_the_stochastic_rule_is_that_of_the_paper():
    """arXiv 2105.14080, algorithm 1: x' - x'', written for VP with f = -beta / 2 and g^2 = beta."""
    model, solver, (x, lam, h) = exact_model(sde_named("vp")), AdaptiveSDE(), at_a_step()
    t, s = model.sde.t_of_lam(lam), model.sde.t_of_lam(lam + h)
    w = 0.1 * start(5).flip(0)

    def step(drift_at, level):
        beta = (0.1 + 19.9 * level)[:, None]
        drift = -beta / 2 * drift_at - beta * model(drift_at, level).score
        return x + (s - t)[:, None] * drift + beta.sqrt() * w

    euler = step(x, t)
    improved = (euler + step(euler, s)) / 2
    trial = solver.attempt(model, x, lam, h, solver.evaluate(model, x, t), w)
    torch.testing.assert_close(trial.x, improved)
    torch.testing.assert_close(trial.error.abs(), (euler - improved).abs())


class Number(Model):
    """Exact for data of one number, N(0, 1/4), whose events have the shape ()."""

    event_shape, device = (), torch.device("cpu")

    def forward(self, x, t, cond=None):
        alpha, sigma, _ = self.levels(t)
        return Prediction.of(x, self.sde, t, x0=x * alpha / (alpha**2 + 4 * sigma**2))


OWN_STEPS = (AdaptiveRungeKutta(), AdaptiveExponential(), AdaptiveSDE(), SciPy(), SciPy("LSODA"), TorchDiffEq())


@pytest.mark.parametrize("solver", OWN_STEPS, ids=repr)
def test_events_may_be_numbers_and_steps_do_not_count(solver):
    samplers = (Sampler(solver, steps=steps) for steps in (1, 7))
    one, seven = (s.sample(Number(sde_named("vp")), (), n=500, dtype=torch.float64).x for s in samplers)
    assert one.shape == (500,)
    assert one.std() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(one, seven)


@pytest.mark.parametrize("sde", PATHS)
@pytest.mark.parametrize("name", [name for name in RULES if "time" not in name])
def test_the_first_step_is_taken_and_its_error_is_a_hundredth_of_the_tolerance_or_less(name, sde):
    """From either end, for every sample, at the cost of one step: the evaluation that it came from is part of it."""
    model, solver = exact_model(sde_named(sde)), RULES[name](1e-3)
    noise = start() * model.sde.at(model.sde.t_start).sigma
    for ends, x in (((model.sde.t_start, model.sde.t_min), noise), ((model.sde.t_min, model.sde.t_start), start())):
        times = torch.tensor(ends, dtype=torch.float64)
        with count_evaluations() as spent:
            t, moved = next(solver.integrate(model, times, x, Noise(0)))
        assert spent.samples == len(x) * (solver.rule.evaluations + (solver.rule.tableau in ("bosh3", "dopri5")))
        assert bool((moved != x).all())
        begin = torch.full((len(x),), ends[0], dtype=torch.float64)
        first, lam = solver.evaluate(model, x, begin), model.sde.lam(begin)
        trial = solver.attempt(model, x, lam, model.sde.lam(torch.tensor(t)) - lam, first, None)  # the shortest step
        assert float((trial.error / (1e-3 + 1e-3 * x.abs())).square().mean(1).sqrt().max()) < 0.01
