"""Churn and restart: what they are in a case that was published, and what they refuse. Their law: test_limit_law."""

import math
from itertools import pairwise

import pytest
import torch
from support import exact_model, sde_named

from scoresde import InputError, Sampler, count_evaluations
from scoresde.chains import ExactBits
from scoresde.control import Wrapper
from scoresde.noise import Noise
from scoresde.sampling import (
    DDIM,
    AdaptiveSDE,
    Ancestral,
    AnnealedLangevinDynamics,
    Auto,
    Churn,
    DPMSolverPP2M,
    EulerMaruyama,
    ExponentialRungeKutta,
    Heun,
    Karras,
    LambdaUniform,
    Langevin,
    Restart,
    ReverseDiffusion,
    Terminal,
    UnderdampedLangevin,
)


@pytest.mark.parametrize("churn", [3.0, 100.0])  # below and above the cap of gamma
def test_churn_with_heun_is_the_published_algorithm(churn):
    """Karras et al. 2022 (arXiv 2206.00364), algorithm 2, written from the paper for sigma(t) = t."""
    model, steps = exact_model(sde_named("edm")), 10
    times = Karras()(model.sde, steps)
    noise, low, high, s_noise = Noise(4), 0.05, 20.0, 1.007
    x = actual = 80 * torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for i, (t, s) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        gamma = min(churn / (steps - 1), math.sqrt(2) - 1) if low <= t <= high else 0.0
        hat = t + gamma * t
        if gamma:
            x = x + math.sqrt(hat**2 - t**2) * s_noise * noise.normal("solver", i, x.shape, "cpu", x.dtype)
        d = (x - model(x, hat).x0) / hat
        ahead = x + (s - hat) * d
        x = x + (s - hat) * (d + (ahead - model(ahead, s).x0) / s) / 2
    solver = Churn(Heun(), churn=churn, lowest=low, highest=high, noise=s_noise)
    *_, (_, actual) = solver.integrate(model, times, actual, noise)
    torch.testing.assert_close(actual, x, rtol=1e-9, atol=1e-9)


def test_churn_never_exceeds_the_noise_of_the_start():
    """r' = min(r sqrt(2), 80), also of a single step, of which churn is taken whole."""
    sde, moved = sde_named("edm"), []
    times = LambdaUniform()(sde, 40)
    for (scale, std, _), r in zip(Churn(churn=1e3, highest=1e3).plan(sde, times), times.tolist(), strict=False):
        moved.append(math.hypot(std, r))
        assert scale == 1
        assert moved[-1] == pytest.approx(max(r, min(r * math.sqrt(2), 80.0)) if r >= 0.05 else r)
    assert moved[1] == pytest.approx(80.0) != pytest.approx(times[1] * math.sqrt(2))
    ((_, std, _),) = Churn(churn=0.3).plan(sde, torch.tensor([2.0, 1.0], dtype=torch.float64))
    assert math.hypot(std, 2.0) == pytest.approx(2.6)


def test_restart_takes_part_of_the_way_again():
    """Evaluations: Heun's on the grid, twice the steps of each repetition, and the last one; levels as asked."""
    model = exact_model(sde_named("vp"))
    sampler = Sampler(Restart(Heun(), lowest=0.1, highest=0.5, times=3, steps=4), steps=20)
    x = torch.randn(2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with count_evaluations() as spent:
        ratios = [math.exp(-float(model.sde.lam(t))) for t, _ in sampler.path(model, x, Noise(0)) if t > 0]
    assert spent.samples / 2 == 2 * 19 + 3 * 2 * 4 + 1
    lowest = [i for i in range(len(ratios)) if ratios[i] == pytest.approx(0.1, rel=0.3)]
    assert len(lowest) >= 4  # arrived there once, and once more after each repetition


@pytest.mark.parametrize("highest", [0.5, 1e6])
def test_restart_goes_up_to_the_level_asked_for(highest):
    """The first evaluation of each repetition is at `highest`, and the last step before it ends nearest to `lowest`.

    A level that the path does not have is that of its start.
    """
    model, seen = exact_model(sde_named("vp")), []
    grid = Sampler(Heun(), steps=20).times(model)

    class Spy(Wrapper):
        def forward(self, x, t, cond=None):
            seen.append(math.exp(-float(self.sde.lam(t))))
            return self.model(x, t, cond)

    Sampler(Restart(Heun(), lowest=0.1, highest=highest, times=3, steps=4), steps=20).sample(Spy(model), n=2)
    rises = [(a, b) for a, b in pairwise(seen) if b > 1.5 * a]
    bottom = min(torch.exp(-model.sde.lam(grid)).tolist(), key=lambda r: abs(math.log(r / 0.1)))
    top = min(highest, math.exp(-float(model.sde.lam(model.sde.T))))
    assert rises == [pytest.approx((bottom, top))] * 3


class Recorded:
    """The numbers of a seed; none may be drawn twice."""

    def __init__(self):
        self.noise, self.drawn = Noise(0), []

    def normal(self, purpose, step, *shape, **named):
        assert (purpose, step) not in self.drawn
        self.drawn.append((purpose, step))
        return self.noise.normal(purpose, step, *shape, **named)


ONE_STEP = (
    EulerMaruyama(),
    ReverseDiffusion(),
    Ancestral(),
    DDIM(1.0),
    ExponentialRungeKutta("midpoint", eta=1.0),
    ExponentialRungeKutta("thirds", eta=1.0),
    ExponentialRungeKutta("krogstad", eta=1.0),
)
DRAWING = (
    *(Churn(rule, churn=5.0) for rule in (Heun(), *ONE_STEP)),
    *(Restart(rule) for rule in (Heun(), *ONE_STEP, Churn(EulerMaruyama()), DPMSolverPP2M(1.0), AdaptiveSDE(0.1, 0.1))),
)


@pytest.mark.parametrize("corrector", [None, Langevin(), UnderdampedLangevin()], ids=repr)
@pytest.mark.parametrize("solver", [*DRAWING, *ONE_STEP], ids=repr)
def test_no_number_is_drawn_twice(solver, corrector):
    if corrector is not None and solver.adaptive:
        return
    model, noise = exact_model(sde_named("vp")), Recorded()
    sampler = Sampler(solver, LambdaUniform(), steps=12, corrector=corrector)
    *_, (_, x) = sampler.path(model, sampler.prior(model, (2,), 3, noise), noise)
    assert torch.isfinite(x).all()
    assert len(noise.drawn) > 2


def test_without_an_interval_on_the_way_restart_is_its_solver():
    model = exact_model(sde_named("vp"))
    lam = Sampler(steps=10, grid=LambdaUniform()).times(model)
    between = float(torch.exp(-model.sde.lam(lam)[5])) * torch.tensor([0.9, 0.95])  # and the nearest level lies above
    for lowest, highest in ((1e5, 1e6), between.tolist()):
        far = Sampler(Restart(Heun(), lowest=lowest, highest=highest), steps=10).sample(model, (2,), 4).x
        assert torch.equal(far, Sampler(Heun(), steps=10).sample(model, (2,), 4).x)


def test_restart_needs_what_its_solver_needs():
    model, rule = exact_model(sde_named("vp")), AnnealedLangevinDynamics(steps=2)
    assert Sampler(Restart(EulerMaruyama())).grid == EulerMaruyama().default_grid
    with pytest.raises(InputError, match="annealed Langevin dynamics needs geometric levels"):
        Sampler(Restart(rule), Terminal(), steps=10).sample(model, (2,), 3)
    chain = ExactBits(torch.tensor([[1.0, -1.0]]), sde_named("rectified"))
    for solver in (Restart(Auto()), Restart()):
        with pytest.raises(InputError, match="solver: "):
            Sampler(solver, steps=10).suited(chain)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Churn(DPMSolverPP2M()), "churn needs a one-step rule, .*DPMSolverPP2M"),
        (lambda: Churn(churn=-1.0), "churn: -1.0"),
        (lambda: Churn(lowest=3.0, highest=1.0), "lowest: 3.0"),
        (lambda: Churn(lowest=1.0, highest=1.0), "lowest: 1.0"),
        (lambda: Restart(lowest=0.5, highest=0.5), "highest: 0.5"),
        (lambda: Churn(ExponentialRungeKutta(), noise=0.0), "noise: 0.0"),
        (lambda: Restart(lowest=0.5, highest=0.1), "highest: 0.1"),
        (lambda: Restart(times=0), "times: 0"),
        (lambda: Restart(DPMSolverPP2M(), steps=1), "steps: 1"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError, match=text):
        make()
