"""Tuned grids and coefficients: gradients, held-out gains on problems that are new, and what is kept and refused."""

import numpy as np
import pytest
import torch
from support import OrnsteinUhlenbeck, exact_flow, exact_model, sde_named

from scoresde import ExactModel, GaussianMixture, InputError, Sampler, count_evaluations
from scoresde.comparison import Mixture
from scoresde.noise import Noise
from scoresde.sampling import (
    Auto,
    AutoGrid,
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


def test_the_model_is_left_as_it_was():
    model = exact_model(sde_named("vp")).train()
    layer = torch.nn.Parameter(torch.ones(1))
    model.register_parameter("extra", layer)
    with count_evaluations() as spent:
        found = tune(model, (2,), 4, n=16, iterations=2, batch_size=16)
    assert model.training
    assert layer.requires_grad
    assert layer.grad is None
    assert found.evaluations == spent.samples


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
    with pytest.raises(InputError, match="is damaged"):
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


@pytest.mark.parametrize("steps", [5, 15, 30])  # where the grids of the ODE are others
def test_auto_with_noise_is_the_stochastic_rule_on_its_grid(steps):
    model = exact_model(sde_named("vp"))
    assert not torch.equal(Sampler(steps=steps).times(model), LambdaUniform()(model.sde, steps))
    a = Sampler(Auto(), steps=steps, eta=1.0).sample(model, (2,), 4).x
    assert torch.equal(a, Sampler(DPMSolverPP2M(1.0), LambdaUniform(), steps=steps).sample(model, (2,), 4).x)
    assert isinstance(Sampler(steps=9).grid, AutoGrid)
