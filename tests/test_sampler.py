"""Samplers: evaluations counted, samples independent of their batch, grids, and what is refused."""

import time

import numpy as np
import pytest
import torch
from support import (
    CORRECTORS,
    PATHS,
    SDES,
    SOLVERS,
    built,
    exact_model,
    mixture,
    options,
    sde_named,
    solver_named,
    with_paths,
)
from torch import nn

from scoresde import InputError, Sampler, ScoreModel
from scoresde.dynamics import EtaWindow
from scoresde.noise import Noise
from scoresde.sampling import DDIM, Adaptive, Churn, EulerMaruyama, ExponentialMultistep, GridSolver, Heun, TimeUniform

GRID_SOLVERS = [n for n in SOLVERS if isinstance(solver_named(n), GridSolver)]
GAPS = {"annealed_langevin": {"least_overlap": 0.0}}  # few levels in many dimensions
OWN_STEPS = [n for n in SOLVERS if isinstance(solver_named(n), Adaptive)]


class CountingNet(nn.Module):
    """Counts the rows it really sees."""

    def __init__(self):
        super().__init__()
        self.rows, self.layer = 0, nn.Linear(6, 6)

    def forward(self, x, c):
        self.rows += len(x)
        return torch.tanh(self.layer(x.flatten(1))).reshape(x.shape)


@pytest.mark.parametrize("corrector", [None, *CORRECTORS])
@pytest.mark.parametrize("solver", SOLVERS)
def test_evaluations_reported_are_evaluations_spent(solver, corrector):
    if corrector and solver not in GRID_SOLVERS:
        return
    net = CountingNet()
    chain = None if corrector is None else built("corrector", corrector, steps=2)
    sampler = Sampler(solver_named(solver), steps=7, corrector=chain)
    result = sampler.sample(ScoreModel(net, sde_named("vp")), (2, 3), n=10, batch_size=4)
    assert result.nfe == net.rows / 10
    if solver in GRID_SOLVERS:  # a grid of 7 steps: 6 of the rule and one that removes the last noise
        assert result.nfe == 6 * (solver_named(solver).evaluations + (2 if corrector else 0)) + 1


@pytest.mark.parametrize(
    ("pair", "sde"),
    with_paths(
        [(s, "langevin") for s in [*GRID_SOLVERS, "restart"]]
        + [("ancestral", c) for c in CORRECTORS]
        + [(s, "none") for s in OWN_STEPS]
    ),
    ids=str,
)
def test_a_sample_depends_on_seed_and_index_alone(pair, sde):
    model, (solver, corrector) = exact_model(sde_named(sde)), pair
    sampler = Sampler(
        solver_named(solver), steps=8, corrector=None if corrector == "none" else built("corrector", corrector)
    )
    draw = {"event_shape": (2,), "seed": 3, "dtype": torch.float64}
    whole = sampler.sample(model, n=23, batch_size=23, **draw).x
    torch.testing.assert_close(sampler.sample(model, n=23, batch_size=5, **draw).x, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(sampler.sample(model, n=4, **draw).x, whole[:4], rtol=0, atol=1e-6)
    other = sampler.sample(model, n=23, **{**draw, "seed": 4}).x
    assert (other - whole).abs().min() > 1e-6


@pytest.mark.parametrize("event", [(1,), (5,), (2, 3), (3, 4, 5), (2, 2, 2, 2)])
@pytest.mark.parametrize("solver", SOLVERS)
def test_any_event_shape(solver, event):
    """An event of any shape is sampled as its flattened vector is."""

    class Net(nn.Module):
        def forward(self, x, c):
            return torch.sin(x) * torch.exp(c).reshape(-1, *(1,) * (x.ndim - 1))

    sampler, size = Sampler(solver_named(solver, **GAPS.get(solver, {})), steps=5), int(np.prod(event))
    model = ScoreModel(Net(), sde_named("vp"))
    shaped = sampler.sample(model, event, n=3, dtype=torch.float64).x
    flat = sampler.sample(model, (size,), n=3, dtype=torch.float64).x
    assert shaped.shape == (3, *event)
    torch.testing.assert_close(shaped.flatten(1), flat)


@pytest.mark.parametrize(("solver", "sde"), with_paths(SOLVERS, ("auto", "ancestral", "euler_maruyama")))
def test_samples_have_the_law_of_a_mixture(solver, sde):
    """Moments of 4,000 samples of a mixture, end to end, within five standard errors and the bias of 150 steps."""
    model, n = exact_model(sde_named(sde)), 4000
    x = Sampler(solver_named(solver), steps=150).sample(model, (2,), n, batch_size=n).x.double()
    data = mixture().sample(100_000, seed=9)
    torch.testing.assert_close(x.mean(0), data.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(torch.cov(x.T), torch.cov(data.T), rtol=0, atol=0.12)


@pytest.mark.parametrize("sde", PATHS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_one_to_three_steps_are_finite_or_refused_in_one_line(solver, sde):
    """One step is the denoiser at the prior, a single evaluation; solvers that choose their steps take as many."""
    model = exact_model(sde_named(sde))
    for steps in (1, 2, 3):
        least = solver_named(solver).least_steps
        if steps < least:
            with pytest.raises(InputError, match=rf"^steps: {steps} is not allowed; .* needs an integer >= {least}$"):
                Sampler(solver_named(solver), steps=steps)
            continue
        if steps > 1 and solver_named(solver).adaptive:
            continue
        drawn = Sampler(solver_named(solver), steps=steps).sample(model, n=2)
        assert torch.isfinite(drawn.x).all()
        if solver_named(solver).adaptive:
            assert drawn.nfe > 10
        elif steps == 1:
            start = Sampler(steps=1).prior(model, (2,), 2, Noise(0))
            torch.testing.assert_close(drawn.x, model(start, model.sde.T).x0)
            assert drawn.nfe == 1


@pytest.mark.parametrize("sde", SDES)
def test_few_steps_may_be_poor_but_are_finite(sde):
    """Also on grids uniform in time, and where f and g diverge right after T: nothing overflows, in float32 either."""
    model = exact_model(sde_named(sde))
    langevin = built("corrector", "langevin")
    for grid in set(options("grid")) - {"auto", "list", "pilot", "tuned"}:  # which say nothing of their own
        for solver in GRID_SOLVERS:
            sampler = Sampler(solver_named(solver), built("grid", grid), steps=4, corrector=langevin)
            assert sampler.sample(model, (2,), n=8).x.abs().max() < 1e5, (solver, grid)


def test_one_step_is_the_denoiser_at_the_prior():
    model = exact_model(sde_named("vp"))
    sampler = Sampler(DDIM(), steps=1)
    x = sampler.sample(model, (2,), n=5, dtype=torch.float64).x
    level = model.sde.at(1.0)
    # so close to the prior nothing is known: x0 is the mean of the data up to terms of order alpha
    mean = mixture().weights @ mixture().means
    assert (x - mean).abs().max() < 10 * level.alpha


def test_sampling_switches_dropout_off_and_back():
    net = nn.Sequential()
    net.forward = lambda x, c: nn.functional.dropout(x, 0.5, training=net.training)
    model = ScoreModel(net, sde_named("vp"))
    sampler = Sampler(DDIM(), steps=3)
    a, b = (sampler.sample(model.train(), (4,), n=3).x for _ in range(2))
    assert torch.equal(a, b)
    assert model.training


class Fails(nn.Module):
    """A frozen normalization, and a failure at the third evaluation: NaN, or an exception."""

    def __init__(self, error):
        super().__init__()
        self.norm, self.drop, self.calls, self.error = nn.BatchNorm1d(2).eval(), nn.Dropout(0.5), 0, error

    def forward(self, x, c):
        self.calls += 1
        if self.calls >= 3 and self.error is not None:
            raise self.error
        return self.drop(self.norm(x)) * (torch.nan if self.calls >= 3 else 1)


@pytest.mark.parametrize("error", [None, RuntimeError("boom")])
def test_a_sampling_that_fails_leaves_every_module_in_its_mode(error):
    model = ScoreModel(Fails(error), sde_named("vp"))
    modes = {name: module.training for name, module in model.named_modules()}
    assert modes["net.drop"]
    assert not modes["net.norm"]
    with pytest.raises(type(error) if error else InputError):
        Sampler(DDIM(), steps=5).sample(model, (2,), 4)
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_float32_state_follows_float64():
    model, sampler = exact_model(sde_named("vp")), Sampler(Heun(), steps=10)
    a = sampler.sample(model, (2,), n=20).x
    b = sampler.sample(model, (2,), n=20, dtype=torch.float64).x
    assert a.dtype == torch.float32
    torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_networks_in_bfloat16_and_events_of_any_shape(solver):
    """The state stays float32 and ends near that of the float32 network; a tolerance below bfloat16 would never end."""
    loose = {"rtol": 0.05, "atol": 0.05} if {"rtol", "atol"} <= set(vars(solver_named(solver))) else {}
    chosen = solver_named(solver, **loose)
    torch.manual_seed(0)
    net = CountingNet()
    half = CountingNet().bfloat16()
    half.load_state_dict(net.state_dict())
    noise = {} if not hasattr(chosen, "eta") else {"eta": 0.0}
    ends = [
        Sampler(chosen, steps=6, **noise).sample(ScoreModel(n, sde_named("vp"), "v"), (1, 2, 3), n=4)
        for n in (net, half)
    ]
    assert ends[1].x.dtype == torch.float32
    assert ends[1].x.shape == (4, 1, 2, 3)
    if solver not in ("heun_churn", "restart"):
        torch.testing.assert_close(ends[1].x, ends[0].x, rtol=0, atol=0.15)


def test_a_path_can_be_differentiated():
    model = exact_model(sde_named("edm"))
    z = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: list(Sampler(DDIM(), steps=6).path(model, 80 * z, Noise(0)))[-1][1], (z,))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Sampler(DDIM(), steps=0), "steps: 0"),
        (lambda: Sampler(DDIM(), steps=-5), "steps: -5"),
        (
            lambda: Sampler(solver_named("velocity_4"), steps=3),
            "steps: 3 is not allowed; ExponentialMultistep of order 4 needs",
        ),
        (lambda: ExponentialMultistep(predictor=5), "predictor: 5"),
        (lambda: Churn(ExponentialMultistep(predictor=1, corrector=2)), "churn needs a one-step rule"),
        (lambda: ExponentialMultistep(corrector=-1), "corrector: -1"),
        (lambda: ExponentialMultistep("velocity", weights="dpmpp"), "weights: dpmpp was published for x0 or eps"),
        (lambda: ExponentialMultistep(weights="bh3"), "weights: 'bh3' is not allowed; give one of exact, dpmpp"),
        (lambda: ExponentialMultistep(predictor=4, weights="dpmpp"), "weights: dpmpp was published up to order 3"),
        (lambda: EtaWindow(lowest=2.0), "highest: 1.0"),
        (lambda: EulerMaruyama(eta=1e200), r"eta: 1e\+200"),
        (lambda: Sampler(DDIM(), eta=-1.0), r"eta: -1\.0"),
        (lambda: Sampler(DDIM(), eta=float("nan")), "eta: nan"),
        (lambda: Sampler(DDIM(), eta=1.5), r"eta: 1\.5"),
        (lambda: Sampler(DDIM()).sample(exact_model(sde_named("vp")), (2,), n=0), "n: 0"),
        (lambda: Sampler(DDIM()).sample(exact_model(sde_named("vp")), (2,), n=1, batch_size=0), "batch_size: 0"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError, match=text):
        make()


def test_a_model_that_returns_nan_is_an_error():
    class Broken(nn.Module):
        def forward(self, x, c):
            return x * float("nan")

    with pytest.raises(InputError, match=r"3 of 3 samples are NaN or infinite, first at t = 0\.5005 "):
        Sampler(DDIM(), TimeUniform(), steps=3).sample(ScoreModel(Broken(), sde_named("vp")), (2,), n=3)


def test_samples_of_which_any_value_is_nan_are_counted_and_the_rest_are_not():
    class Partly(nn.Module):
        def forward(self, x, c):
            out = torch.zeros_like(x)
            out[1, 0] = torch.nan
            return out

    with pytest.raises(InputError, match="1 of 3 samples are NaN or infinite"):
        Sampler(DDIM(), steps=3).sample(ScoreModel(Partly(), sde_named("vp")), (2,), n=3)


def test_a_sampling_tells_its_time_and_its_steps():
    told, began = [], time.perf_counter()
    assert Sampler().steps == 50
    sampler, model = Sampler(DDIM(), steps=4), exact_model(sde_named("vp"))
    drawn = sampler.sample(model, n=5, batch_size=3, on_step=told.append)
    assert 0 < drawn.seconds < time.perf_counter() - began
    assert told == [3] * 5 + [2] * 5  # the start, three steps and the denoising, of each batch
    alone = sampler.sample(model, rows=range(3, 4), batch_size=1)
    torch.testing.assert_close(alone.x, drawn.x[3:4])
    assert Sampler(DDIM(), steps=4, denoise=False).sample(model, n=1).nfe == 4


class HalfNet(nn.Module):
    """A small convolution, in whatever arithmetic its weights are."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x, c):
        return torch.tanh(self.conv(x) + c[:, None, None, None])


# an adaptive SDE solver may accept another step, and then takes other noise
@pytest.mark.parametrize("solver", sorted({*SOLVERS} - {"adaptive_sde"}))
def test_a_network_in_half_precision_leaves_the_state_in_single(solver):
    """The samples differ by what the network rounds, 2^-8 of its output, and by no more: nothing else is rounded."""
    sampler, shape = Sampler(solver_named(solver, **GAPS.get(solver, {})), steps=8), (2, 4, 3)
    single = sampler.sample(ScoreModel(HalfNet(), sde_named("vp")), shape, n=4).x
    half = sampler.sample(ScoreModel(HalfNet().to(torch.bfloat16), sde_named("vp")), shape, n=4).x
    assert half.dtype == torch.float32
    assert 0 < (half - single).abs().max() < 0.1 * single.std()
