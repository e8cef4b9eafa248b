"""Tuned grids and coefficients: gradients, held-out gains on problems that are new, and what is kept and refused."""

import dataclasses
import inspect

import numpy as np
import pytest
import torch
import yaml
from support import CONF, OrnsteinUhlenbeck, exact_flow, exact_model, mixture, sde_named

from scoresde import ExactModel, GaussianMixture, InputError, Sampler, count_evaluations
from scoresde.comparison import Mixture
from scoresde.noise import Noise
from scoresde.sampling import (
    DPMSolverPP2M,
    ExponentialMultistep,
    Karras,
    LambdaUniform,
    RungeKutta,
    Tuned,
    TunedGrid,
)
from scoresde.sampling.tuned import TunedRule, file_for
from scoresde.tuning import endpoint, equal_error, tune
from scoresde.tuning.pilot import Error, Pilot
from scoresde.tuning.search import Parameters, descend, search
from scoresde.tuning.tune import _RULES, Tuning


@pytest.mark.parametrize("path", [OrnsteinUhlenbeck(), sde_named("drift"), sde_named("path")])
def test_the_time_of_lam_is_differentiable_where_it_is_found_by_iteration(path):
    lam = torch.linspace(-1.5, 2.5, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(path.t_of_lam, (lam,), rtol=1e-5)


@pytest.mark.parametrize("predict", ["x0", "velocity"])
@pytest.mark.parametrize("sde", ["vp", "edm", "rectified", "drift", "path", "bisected"])
def test_the_endpoint_is_differentiable_in_the_times(sde, predict):
    """Against finite differences of the sampler, in float64."""
    model = exact_model(OrnsteinUhlenbeck() if sde == "bisected" else sde_named(sde))
    rule = ExponentialMultistep(predict, "noise_share" if predict == "velocity" else "lambda", predictor=3)
    times = LambdaUniform()(model.sde, 6)
    x = model.sde.prior_std * torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def end(inner):
        t = torch.cat((times[:1], inner))
        return endpoint(model, rule, t, rule.coefficients(model.sde, t), x)

    torch.testing.assert_close(end(times[1:]), list(Sampler(rule, steps=6).path(model, x, Noise(0)))[-1][1])
    inner = times[1:].clone().requires_grad_()
    assert torch.autograd.gradcheck(end, (inner,), eps=1e-7 * float(times[-1]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("dimension", "steps"), [(2, 6), (16, 8)])
def test_tuning_helps_on_noise_it_has_not_seen(dimension, steps):
    model = ExactModel(Mixture(dimension, 4, seed=3).distribution, sde_named("vp"))
    found = tune(model, (dimension,), steps, coefficients=True, n=256, iterations=100, batch_size=128, seed=1)
    assert found.after.mean < 0.6 * found.before.mean
    assert found.after.median < 0.6 * found.before.median
    assert (found.times.diff() < 0).all()
    assert found.times[0] == model.sde.T
    assert found.times[-1] >= model.sde.t_min
    # the judgement holds for other noise still
    x = Sampler(found.rule, steps=steps).prior(model, (dimension,), 400, Noise(99), torch.float64)
    exact = torch.cat([x for _, x in [list(Sampler(DPMSolverPP2M(), steps=400).path(model, x, Noise(0)))[-1]]])
    *_, (_, end) = found.sampler.path(model, x, Noise(0))
    apart = (end - exact).norm(dim=1).median()
    assert float(apart) == pytest.approx(found.after.median, rel=0.3)  # of the mean a few starts make the most


@pytest.mark.parametrize("coefficients", [False, True])
def test_tuning_without_gradients_helps_too(coefficients):
    """And leaves no graph behind: the model sees no tensor that wants a gradient."""

    class Watched(ExactModel):
        def forward(self, x, t, cond=None):
            assert not x.requires_grad
            return super().forward(x, t, cond)

    model = Watched(Mixture(2, 4, seed=3).distribution, sde_named("vp"))
    tried = []
    found = tune(
        model,
        (2,),
        6,
        coefficients=coefficients,
        n=128,
        iterations=60,
        seed=1,
        gradient=False,
        on_step=lambda k, error: tried.append((k, error)),
    )
    assert found.after.mean < 0.8 * found.before.mean
    assert [k for k, _ in tried] == [*range(1, 61)] * (2 if coefficients else 1)
    if coefficients:
        assert found.coefficients is not None


def test_tuning_is_never_worse_than_its_start():
    """With an optimiser that ruins everything the start is kept, to the bit."""
    model = exact_model(sde_named("vp"))
    found = tune(model, (2,), 5, coefficients=True, n=32, iterations=5, batch_size=32, rate=1e3)
    assert found.after == found.before
    assert found.coefficients is None
    grids = [grid(model.sde, 5) for grid in (LambdaUniform(), Karras())]
    named = {"noise_share", "lambda", "karras", "equal error"}
    assert found.start in named
    assert found.start in {"noise_share", "equal error"} or any(torch.equal(found.times, g) for g in grids)


class Scaled(ExactModel):
    """A model with a parameter that the samples depend on."""

    def __init__(self):
        super().__init__(mixture(), sde_named("vp"))
        self.extra = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, t, cond=None):
        return super().forward(x * self.extra, t)


def test_the_model_is_left_as_it_was():
    model = Scaled().train()
    layer = model.extra
    with count_evaluations() as spent:
        found = tune(model, (2,), 4, n=16, iterations=2, batch_size=16, fine=5)
    assert model.training
    assert layer.requires_grad
    assert layer.grad is None
    assert found.evaluations == spent.samples


# ---- the parts, by themselves ----


def test_defaults_are_those_of_the_command():
    cfg = yaml.safe_load((CONF / "tune.yaml").read_text())
    stated = {**cfg["tune"], "steps": cfg["sampler"]["steps"], "seed": cfg["seed"]}
    defaults = {name: p.default for name, p in inspect.signature(tune).parameters.items()}
    assert defaults == {**stated, **dict.fromkeys(("event_shape", "on_step")), "model": inspect.Parameter.empty}


def test_errors_are_summed_up_as_numpy_does():
    distances = np.array([0.1, 0.2, 0.4, 0.9, 7.0])
    found = Error.of(torch.tensor(distances))
    expected = (distances.mean(), np.median(distances), np.sqrt((distances**2).mean()), np.quantile(distances, 0.95))
    assert (found.mean, found.median, found.rms, found.p95) == pytest.approx(expected)


def test_starts_are_the_samples_of_the_seed_and_their_endpoints_are_exact():
    model, n, fine = exact_model(sde_named("vp")), 6, 40
    with count_evaluations() as spent:
        pilot = Pilot.of(model, (2,), 3, range(4, 4 + n), fine)
    assert spent.samples == n * (4 * (fine - 1) + 1)  # four in a step, and the denoising
    assert pilot.rows.tolist() == list(range(4, 4 + n))
    assert torch.equal(pilot.x, Sampler().prior(model, (2,), n, Noise(3, range(4, 4 + n))))
    lams = model.sde.lam(torch.tensor([model.sde.T, 1e-5], dtype=torch.float64))
    torch.testing.assert_close(pilot.exact.double(), exact_flow(model, pilot.x.double(), lams)[-1], rtol=0, atol=2e-3)
    rule, times = ExponentialMultistep(predictor=2), LambdaUniform()(model.sde, 8)
    rows = rule.coefficients(model.sde, times)
    apart = (Sampler(rule, steps=8).sample(model, (2,), rows=range(4, 4 + n), seed=3).x - pilot.exact).norm(dim=1)
    assert pilot.error(rule, times, rows).mean == pytest.approx(float(apart.mean()), rel=1e-4)
    pilot.exact[2] = torch.nan
    assert pilot.error(rule, times, rows).mean == np.inf  # or a model that fails would be the best


@pytest.mark.parametrize(("n", "judges"), [(16, 16), (36, 18), (150, 75)])
def test_what_a_tuning_spends(n, judges):
    """Two sets of starts with their endpoints, 12 trials with 3 fine paths of at most 64 starts, and two judgements."""
    model, steps, fine = exact_model(sde_named("vp")), 4, 3
    found = tune(model, (2,), steps, n=n, iterations=0, fine=fine)
    starts = (n + judges) * (4 * (fine - 1) + 1)
    trials = 3 * (4 * n * steps + min(n, 64) * (198 + 199))
    assert found.evaluations == starts + trials + 2 * judges * steps


def test_the_rules_that_are_tried():
    rules = [(rule.predict, rule.variable, rule.predictor) for rule in _RULES]
    assert rules == [("velocity", "noise_share", 3), ("velocity", "noise_share", 4), ("eps", "lambda", 3)]


@pytest.mark.parametrize("coefficients", [False, True])
def test_a_grid_as_free_numbers_is_that_of_its_formula(coefficients):
    """Steps in lam by a softmax of their shares with 0.01 for what is left, of which 0.001 is spread evenly."""
    sde, rule = sde_named("vp"), ExponentialMultistep(predictor=3)
    start = Karras()(sde, 6)
    free = Parameters(sde, rule, start, coefficients)
    assert len(free.free) == 1 + coefficients
    lam = sde.lam(start)
    shares = torch.cat((lam.diff() / (lam[-1] - lam[0]), torch.tensor([0.01], dtype=torch.float64)))
    shares = (shares / shares.sum() + 0.001 / 6) / 1.001
    times, rows = free()
    assert times[0] == sde.T
    torch.testing.assert_close(sde.lam(times[1:]), lam[0] + (lam[-1] - lam[0]) * shares.cumsum(0)[:-1])
    plain = rule.coefficients(sde, times)
    torch.testing.assert_close(rows, plain)
    with torch.no_grad():
        free.offsets.copy_(torch.linspace(-0.1, 0.2, 15, dtype=torch.float64).reshape(5, 3))
        moved = free()[1]
    weights = plain[:, 5:]  # of the first steps those without history are zero, and stay so
    expected = weights + free.offsets * weights.sum(1, keepdim=True) * (weights != 0) * coefficients
    torch.testing.assert_close(moved, torch.cat((plain[:, :5], expected), dim=1))


class Slope:
    """In place of a pilot and its parameters: errors that rise equally everywhere, in units that differ by start."""

    rule, x = None, torch.zeros(10)

    def __init__(self, units=(1.0, 2.0, 6.0, 1.0)):
        self.p, self.units, self.seen = torch.zeros(3, requires_grad=True), torch.tensor(units), []
        self.free = [self.p]

    def __call__(self):
        return self.p, self.p

    def distances(self, rule, times, coefficients, which):
        self.seen.append(which.tolist())
        return (1 + times.sum()) * self.units


def test_descent_is_adam_whose_rate_falls_as_a_cosine():
    """Under a constant gradient Adam moves by the rate of each step."""
    slope, n, rate, told = Slope(), 7, 0.03, []
    descend(slope, slope, n, 4, rate, lambda k, error: told.append((k, error)))
    falls = rate * (1 + np.cos(np.pi * np.arange(n) / n)) / 2
    assert slope.p.tolist() == pytest.approx([-falls.sum()] * 3, rel=1e-5)
    assert slope.seen == [[(4 * k + i) % 10 for i in range(4)] for k in range(n)]
    before = np.concatenate(([0.0], falls.cumsum()[:-1]))
    assert told == [(k + 1, pytest.approx(2.5 * (1 - 3 * p), rel=1e-5)) for k, p in enumerate(before)]
    broken = Slope((1.0, np.nan, 1.0, 1.0))
    descend(broken, broken, n, 4, rate, None)
    assert (broken.p.tolist(), len(broken.seen)) == ([0.0] * 3, 1)


def test_a_search_without_gradients_finds_a_minimum_within_its_evaluations():
    class Bowl(Slope):
        def error(self, rule, times, coefficients):
            self.seen.append(times.tolist())
            mean = 1 + float((times - torch.tensor([0.2, -0.1, 0.4])).square().sum())
            return Error(np.nan if len(self.seen) == 5 else mean, 0.0, 0.0, 0.0)

    bowl, told = Bowl(), []
    search(bowl, bowl, 60, lambda k, error: told.append(k))
    assert bowl.p.tolist() == pytest.approx([0.2, -0.1, 0.4], abs=1e-3)
    assert told == list(range(1, len(bowl.seen) + 1))
    assert len(told) <= 60
    first = np.array(bowl.seen[:4])
    assert np.abs(first[1:] - first[0]).max(1) == pytest.approx([0.3] * 3, rel=1e-6)  # the radius of the first trials


GRIDS_OF_EQUAL_ERROR = {
    "vp x0 1": [1, 0.73110295, 0.53200223, 0.37164011, 0.202086, 0.047037575, 0.001],
    "ve eps 2": [1, 0.74626559, 0.59430525, 0.48110574, 0.36687175, 0.22758591, 1e-05],
    "rectified velocity 3": [0.999, 0.95806299, 0.7318472, 0.43285702, 0.17700491, 0.030843908, 0.001],
    "vp v 4": [1, 0.67172151, 0.39871458, 0.2057353, 0.08342361, 0.02282912, 0.001],
}


@pytest.mark.parametrize("case", GRIDS_OF_EQUAL_ERROR)
def test_grids_of_equal_error_stay_the_same(case):
    """Runs of earlier versions were tuned from them."""
    path, predict, predictor = case.split()
    model = exact_model(sde_named(path))
    x = model.sde.prior_std * torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = equal_error(model, ExponentialMultistep(predict, predictor=int(predictor)), x, 7)
    assert times.tolist() == pytest.approx(GRIDS_OF_EQUAL_ERROR[case], rel=1e-6)


def test_what_a_tuning_says():
    sde, few = sde_named("vp"), ExponentialMultistep(predictor=2)
    times = Karras()(sde, 4)
    before, after = Error(0.5, 0.3, 0.6, 0.9), Error(0.2, 0.4, 0.3, 0.4)
    found = Tuning(few, times, None, before, after, "Karras", 12345)
    text = "4 steps  mean endpoint error 0.2 on held-out noise, 2.5 times smaller than the 0.5 on Karras\n"
    assert str(found) == text + "cost     12,345 evaluations"
    assert "0.5 on held-out noise, no better than the 0.5" in str(dataclasses.replace(found, after=before))


def kept(folder, model, steps, **changes):
    times = Karras()(model.sde, steps)
    rule = {"predict": "eps", "variable": "lambda", "order": 3, "corrector": 0}
    rule |= {"eta": 0.0, "ramp_down": False, "weights": "exact"}
    values = {
        "sde": repr(model.sde),
        "times": times.tolist(),
        "rule": rule,
        "coefficients": None,
        "report": {},
        **changes,
    }
    file_for(folder, steps).parent.mkdir(exist_ok=True)
    file_for(folder, steps).write_text(TunedRule(**values).text())


@pytest.mark.parametrize("name", ["vp", "edm", "path"])
def test_grids_name_their_sde_as_earlier_versions_did(name, tmp_path):
    model = exact_model(sde_named(name))
    for text in (repr(model.sde), model.sde.attributes_text()):
        kept(tmp_path, model, 7, sde=text)
        assert len(TunedGrid(tmp_path)(model.sde, 7)) == 7
    kept(tmp_path, model, 7, sde="VPSDE(beta_min=0.2)")
    with pytest.raises(InputError, match="tune again"):
        TunedGrid(tmp_path)(model.sde, 7)


def test_what_is_kept_is_what_is_used(tmp_path):
    model = exact_model(sde_named("vp"))
    kept(tmp_path, model, 7)
    rule = ExponentialMultistep("eps", predictor=3)
    expected = Sampler(rule, Karras(), steps=7).sample(model, (2,), 5).x
    assert torch.equal(Sampler(Tuned(tmp_path), steps=7).sample(model, (2,), 5).x, expected)
    assert torch.equal(Sampler(rule, TunedGrid(tmp_path), steps=7).sample(model, (2,), 5).x, expected)
    grid, path = TunedGrid(tmp_path), model.sde
    assert torch.equal(grid(path, 7, path.T, path.t_min), Karras()(path, 7))
    for ends, name in (((path.T, path.t_train), "end"), ((0.5, path.t_min), "start")):
        with pytest.raises(InputError, match=f"^{name}: .* a tuned grid has"):
            grid(path, 7, *ends)
    assert not Tuned(tmp_path).bidirectional
    kept(tmp_path, model, 8, report={"evaluations": 123})
    assert Tuned(tmp_path).costs([6, 8]) == {8: 123}
    assert Tuned().costs([8]) == {}
    rows = rule.coefficients(model.sde, Karras()(model.sde, 7))
    rows[:, 5] *= 1.01
    kept(tmp_path, model, 7, coefficients=rows.tolist())
    changed = Sampler(Tuned(tmp_path), steps=7).sample(model, (2,), 5).x
    assert 1e-4 < float((changed - expected).abs().max()) < 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda run, model: Sampler(Tuned(run), steps=6), r"has no grid tuned for 6 \(there are 7\)"),
        (lambda run, model: Sampler(Tuned(run), Karras(rho=3.0), steps=7), "goes with its own grid"),
        (lambda run, model: Sampler(Tuned(), steps=7), "belongs to a trained run"),
        (lambda run, model: Sampler(DPMSolverPP2M(), TunedGrid(run), steps=8), "has no grid tuned for 8"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, make, text):
    model = exact_model(sde_named("vp"))
    kept(tmp_path, model, 7)
    with pytest.raises(InputError, match=text):
        make(tmp_path, model).sample(model, (2,), 2)


def test_a_grid_for_another_sde_or_a_damaged_one_is_refused(tmp_path):
    model = exact_model(sde_named("vp"))
    kept(tmp_path, model, 7)
    with pytest.raises(InputError, match=r"was tuned for VPSDE.*not for SubVPSDE"):
        Sampler(Tuned(tmp_path), steps=7).sample(exact_model(sde_named("subvp")), (2,), 2)
    file_for(tmp_path, 7).write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        Sampler(Tuned(tmp_path), steps=7).sample(model, (2,), 2)


@pytest.mark.parametrize(
    ("arguments", "text"), [({"steps": 2}, "steps: 2"), ({"n": 3}, "n: 3"), ({"iterations": -1}, "iterations: -1")]
)
def test_bad_input_is_named(arguments, text):
    with pytest.raises(InputError, match=text):
        tune(exact_model(sde_named("vp")), (2,), **{"steps": 5, **arguments})


# ---- the choice without tuning ----


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("sde", ["vp", "ve"])
def test_points_of_equal_error_crowd_where_the_solution_bends(sde, order):
    """Between sigma 0.3 and 3 a sample decides for one of two narrow modes; hardly anything happens elsewhere."""
    law = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [1e-4 * torch.eye(2)] * 2)
    model, rule = ExactModel(law, sde_named(sde)), ExponentialMultistep("x0", predictor=order)
    x = model.sde.prior_std * torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times, equal = equal_error(model, rule, x, 12), LambdaUniform()(model.sde, 12)
    assert times[0] == model.sde.T
    assert times[-1] == model.sde.t_min
    assert (times.diff() < 0).all()
    assert local_errors(model, rule, times, x).max() < 0.7 * local_errors(model, rule, equal, x).max()


def local_errors(model, rule, times, x, fine=30):
    """RMS of what each step after the first adds when it starts on the exact way, with exact history."""
    lam = model.sde.lam(times)
    share = torch.linspace(0, 1, fine + 1, dtype=torch.float64)[1:]
    between = torch.cat((lam[:1], (lam[:-1, None] + lam.diff()[:, None] * share).flatten()))
    way = RungeKutta("rk4", "noise_share").integrate(model, model.sde.t_of_lam(between), x, Noise(0))
    exact = [x, *[y for _, y in way][fine - 1 :: fine]]
    state, errors = None, []
    for start, end, plan in zip(exact, exact[1:], rule.plan(model.sde, times), strict=False):
        y, state = rule.step(model, start, plan, state, lambda: pytest.fail("no noise here"))
        errors.append(float((y - end).square().mean().sqrt()))
    return np.array(errors[1:])


@pytest.mark.parametrize("sde", ["vp", "ve", "edm", "rectified"])
def test_auto_beats_or_nears_the_usual_choice_at_every_budget(sde):
    """On a mixture that it was not chosen on: median endpoint error beside DPM-Solver++(2M) on the same steps."""
    model = exact_model(sde_named(sde))
    level = model.sde.at(model.sde.T)
    x = model.sde.prior_std * torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lams = torch.tensor([level.lam, float(model.sde.lam(model.sde.t_min))], dtype=torch.float64)
    end = exact_flow(model, x, lams)[-1]
    exact = model(end, model.sde.t_min).x0
    ratios = []
    for steps in (5, 8, 12, 16, 25, 40, 60):
        errors = []
        for sampler in (Sampler(steps=steps), Sampler(DPMSolverPP2M(), steps=steps)):
            *_, (_, found) = sampler.path(model, x, Noise(0))
            errors.append(float((found - exact).norm(dim=1).median()))
        ratios.append(errors[0] / errors[1])
    assert np.exp(np.mean(np.log(ratios))) < 0.5
    assert max(ratios) < 1
