"""Log densities against those that are known."""

import math

import pytest
import torch
from nets_support import made
from support import mixture, sde_named, solver_named
from torch import nn

from scoresde import (
    AdaptiveRungeKutta,
    Auto,
    ExactModel,
    ExactTrace,
    ExponentialMultistep,
    GaussianMixture,
    Heun,
    Hutchinson,
    InputError,
    Likelihood,
    Model,
    Prediction,
    RungeKutta,
    ScoreModel,
    Terminal,
)
from scoresde.divergence.products import _AT_ONCE
from scoresde.likelihood.augmented import InUnits, Moves
from scoresde.noise import Noise

PATHS = ["vp", "subvp", "ve", "edm", "rectified"]
QUICK = RungeKutta("rk4", "noise_share")
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
MULTISTEP = ExponentialMultistep("v", "noise_share", predictor=3, corrector=4)


class Zero(nn.Module):
    def forward(self, x, c):
        return torch.zeros_like(x)


def items(n, *shape, seed=0):
    return Noise(seed).normal("items", 0, (n, *shape), dtype=torch.float64)


def exact(data, sde):
    """A model, points of the data at the cut-off, their log density, and log p_T."""
    model, (alpha, sigma, _), last = ExactModel(data, sde), sde.at(sde.t_train), sde.at(sde.t_start)
    x = alpha * data.sample(4, seed=1) + sigma * items(4, *data.event_shape)
    return model, x, data.log_prob(x, alpha, sigma), lambda y: data.log_prob(y, *last[:2])


@pytest.mark.parametrize("name", [*PATHS, "cosine"])
@pytest.mark.parametrize("divergence", [ExactTrace(), Hutchinson(2)], ids=repr)
def test_a_zero_network_has_the_density_of_its_preconditioning(name, divergence):
    sde, std, x = sde_named(name), 0.7, items(3, 2, 3)
    gaussian = GaussianMixture([1.0], torch.zeros(1, 6), std**2 * torch.eye(6, dtype=torch.float64)[None])

    def log_prob(x, t):
        return gaussian.log_prob(x.flatten(1), *sde.at(t)[:2])

    model = ScoreModel(Zero(), sde, "edm", std)
    for solver in (Auto(), MULTISTEP):
        likelihood = Likelihood(solver, divergence=divergence, steps=3)
        found = likelihood(model, x, prior=lambda x: log_prob(x, sde.t_start))
        torch.testing.assert_close(found.nats, log_prob(x, sde.t_train), rtol=0, atol=1e-6)
        assert found.nfe == 3
        assert found.error.max() < 1e-10
    gap = likelihood(model, x).nats - found.nats  # of the prior of the path
    torch.testing.assert_close(gap, _normal(found.latent, sde.prior_std) - log_prob(found.latent, sde.t_start))


def _normal(x, std):
    return torch.distributions.Normal(x.new_zeros(()), std).log_prob(x).flatten(1).sum(1)


@pytest.mark.parametrize("path", PATHS)
def test_a_point_has_the_same_density_on_every_path(path):
    """That of x / alpha at one ratio of noise to data, whatever alpha is there."""
    sde, data, lam = sde_named(path), mixture(), 3.0
    at = float(sde.t_of_lam(torch.tensor(lam, dtype=torch.float64)))
    y, alpha = data.sample(4, seed=1), sde.at(at).alpha
    model, last = ExactModel(data, sde), sde.at(sde.t_start)
    found = Likelihood(steps=40)(model, alpha * y, at=at, prior=lambda x: data.log_prob(x, *last[:2]))
    torch.testing.assert_close(
        found.nats + 2 * math.log(alpha), data.log_prob(y, 1.0, math.exp(-lam)), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize(
    ("solver", "steps", "error"),
    [
        (None, 40, 2e-3),
        (Auto(), 40, 1e-2),
        (solver_named("velocity_3"), 40, 3e-2),
        (solver_named("deis"), 100, 3e-2),
        (RungeKutta("dopri5", "noise_share"), 12, 1e-2),
        (AdaptiveRungeKutta(1e-5, 1e-5, pair="dopri5", variable="noise_share"), 1, 1e-3),
        (solver_named("torchdiffeq", rtol=1e-6, atol=1e-6), 1, 1e-3),
        (solver_named("scipy", rtol=1e-6, atol=1e-6), 1, 1e-3),
    ],
    ids=repr,
)
def test_every_solver_finds_the_exact_density(solver, steps, error):
    model, x, true, prior = exact(mixture(), sde_named("vp"))
    found = Likelihood(solver, steps=steps)(model, x, prior=prior)
    torch.testing.assert_close(found.nats, true, rtol=0, atol=error)
    assert found.products == 2 * found.nfe


@pytest.mark.parametrize(("tableau", "order"), [("midpoint", 2), ("rk4", 4)])
def test_the_error_falls_with_the_order_of_the_rule(tableau, order):
    model, x, true, prior = exact(mixture(), sde_named("rectified"))
    at = 0.1
    x, true = x + 0.1, mixture().log_prob(x + 0.1, *model.sde.at(at)[:2])
    errors = [
        (Likelihood(RungeKutta(tableau, "noise_share"), Terminal(), steps=n)(model, x, at=at, prior=prior).nats - true)
        for n in (10, 20)
    ]
    slope = torch.log2(errors[0].norm() / errors[1].norm())
    assert slope > order - 0.3


class Blocks(Model):
    """Two independent parts, each with a model of its own."""

    def __init__(self, *models):
        super().__init__(models[0].sde)
        self.models = nn.ModuleList(models)
        self.event_shape = (sum(model.event_shape[0] for model in models),)

    def forward(self, x, t, cond=None):
        parts = x.split([model.event_shape[0] for model in self.models], dim=1)
        x0 = [model(part, t).x0 for model, part in zip(self.models, parts, strict=True)]
        return Prediction.of(x, self.sde, t, x0=torch.cat(x0, dim=1))


def test_log_densities_of_independent_blocks_add():
    sde, likelihood = sde_named("edm"), Likelihood(MULTISTEP, Terminal(high=3.0), steps=12)
    ours = GaussianMixture([0.4, 0.6], [[1.0], [-0.5]], [[[0.1]], [[0.3]]])
    one, two = ExactModel(mixture(), sde), ExactModel(ours, sde)
    x = items(5, 3)
    whole = likelihood(Blocks(one, two), x).nats
    parts = likelihood(one, x[:, :2]).nats + likelihood(two, x[:, 2:]).nats
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-10)


def test_data_in_other_units_shift_the_density_by_their_scale():
    sde, c, data = sde_named("ve"), 3.7, mixture()
    scaled = GaussianMixture(data.weights, c * data.means, c**2 * (data.axes * data.variances[:, None]) @ data.axes.mT)
    model, other = ExactModel(data, sde), ExactModel(scaled, InUnits(sde, 1 / c))
    other.sigma_data = c
    x = data.sample(4, seed=1)
    for solver in (None, AdaptiveRungeKutta(1e-2, 1e-2)):
        likelihood = Likelihood(solver, steps=5)
        before, after = likelihood(model, x).nats, likelihood(other, c * x).nats
        torch.testing.assert_close(after, before - 2 * math.log(c), rtol=0, atol=1e-9)


@pytest.mark.parametrize("solver", [None, AdaptiveRungeKutta(1e-1, 1e-1)], ids=repr)
@pytest.mark.parametrize("divergence", [Hutchinson(2)], ids=repr)
def test_the_density_of_an_item_depends_on_no_other(solver, divergence):
    model, x, likelihood = ExactModel(mixture(), sde_named("vp")), items(7, 2), Likelihood(solver, None, divergence, 5)
    whole = likelihood(model, x, seed=3)
    parts = likelihood(model, x, seed=3, batch_size=3)
    some = likelihood(model, x[1:7:2], seed=3, rows=range(1, 7, 2))
    for name in ("nats", "error", "latent"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=0, atol=1e-9)
        torch.testing.assert_close(getattr(some, name), getattr(whole, name)[1:7:2], rtol=0, atol=1e-9)


def test_items_between_two_modes_are_solved_again_and_no_others():
    """To rounding as with four times the steps, in their own directions, whatever else is in the batch."""
    data = GaussianMixture([0.5, 0.5], [[1.0] * 4, [-1.0] * 4], torch.eye(4, dtype=torch.float64).repeat(2, 1, 1) / 9)
    model = ExactModel(data, sde_named("ve"))
    x = torch.cat((items(5, 4) / 3 + 1, items(3, 4, seed=1) / 30))[[0, 5, 1, 2, 6, 3, 7, 4]]  # three between the modes
    for divergence in (ExactTrace(), Hutchinson(2, "hadamard", fresh=True)):
        found, coarse, fine = (
            Likelihood(divergence=divergence, steps=steps, again=again)(model, x, seed=2)
            for steps, again in ((15, 0.04), (15, None), (60, None))
        )
        assert found.again.tolist() == [False, True, False, False, True, False, True, False]
        assert not coarse.again.any()
        assert found.nfe == 15 + 3 / 8 * 60
        for name in ("nats", "error", "latent"):
            ours, one, other = (getattr(result, name) for result in (found, coarse, fine))
            assert torch.equal(ours[~found.again], one[~found.again])
            torch.testing.assert_close(ours[found.again], other[found.again], rtol=0, atol=1e-9)
        parts = Likelihood(divergence=divergence, steps=15, again=0.04)(
            model, x[1:8:2], seed=2, rows=range(1, 8, 2), batch_size=2
        )
        torch.testing.assert_close(parts.nats, found.nats[1:8:2], rtol=0, atol=1e-9)


def test_the_moves_of_a_corrector():
    """None of the integral of a cubic; of Gaussian data, whose states stay, the log density that one gains or loses."""
    moves, c = Moves(torch.zeros(1, dtype=torch.float64)), items(4, 2)
    for k, phi in enumerate([0.1, 0.3, 0.4, 0.9, 1.3]):
        powers, before = phi ** torch.arange(5.0, dtype=torch.float64), moves.nats
        moves.add(phi, (powers[1:] @ (c / torch.arange(1, 5)[:, None]))[None], (powers[:4] @ c)[None])
        assert k < 2 or bool((moves.nats - before < 1e-12).all()) == (k >= 3)  # the first steps have fewer values
    gaussian = Moves(torch.zeros(3, dtype=torch.float64))
    for phi, x in ((0.2, items(3, 2)), (0.7, items(3, 2)), (0.8, items(3, 2, seed=1))):
        gaussian.add(phi, x, torch.zeros_like(x))
    gained = _normal(items(3, 2), 1.0) - _normal(items(3, 2, seed=1), 1.0)
    torch.testing.assert_close(gaussian.nats, gained.abs())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_threads_batches_and_devices_do_not_change_a_density(device):
    model = ScoreModel(made("digits", torch.float32)[0], sde_named("vp"), "edm", 0.5).eval()
    x, likelihood = items(5, 1, 8, 8) / 2, Likelihood(divergence=Hutchinson(2), steps=3)
    reference = likelihood(model, x).nats
    model.to(device)
    try:
        for threads, size in ((1, 2), (2, 2), (2, 5)):
            torch.set_num_threads(threads)
            found = likelihood(model, x, batch_size=size).nats.cpu()
            torch.testing.assert_close(found, reference, rtol=1e-6 if device == "cpu" else 1e-5, atol=0)
    finally:
        torch.set_num_threads(1)


def test_fresh_directions_are_drawn_at_every_evaluation():
    model, x = ExactModel(mixture(), sde_named("vp")), items(64, 2)
    true = Likelihood(QUICK, steps=8)(model, x).nats
    kept, fresh = (Likelihood(QUICK, None, Hutchinson(2, fresh=new), 8)(model, x).nats - true for new in (False, True))
    again = Likelihood(QUICK, None, Hutchinson(2, fresh=True), 8)(model, x[5:9], rows=range(5, 9)).nats - true[5:9]
    torch.testing.assert_close(again, fresh[5:9], rtol=0, atol=1e-9)
    assert fresh.std() < 0.6 * kept.std()
    for solver in (Auto(), AdaptiveRungeKutta()):
        with pytest.raises(InputError, match=r"^divergence: fresh directions .* use fresh=false"):
            Likelihood(solver, None, Hutchinson(2, fresh=True))


@pytest.mark.parametrize("case", ["digits", "vector", "sound", "number", "ncsnpp pyramids", "adm", "edm2", "dit"])
def test_the_trace_of_every_network_is_that_of_its_jacobian(case, monkeypatch):
    net, x, _ = made(case)
    x = x[:2]
    monkeypatch.setitem(_AT_ONCE, "cpu", 29 * x.numel())
    model = ScoreModel(net.eval(), sde_named("vp"))

    def of_one(x):
        return model(x[None], 0.4).eps[0]

    _, found = ExactTrace().of(lambda x: model(x, 0.4).eps, x, None, 0)
    size = x[0].numel()
    jacobians = [torch.autograd.functional.jacobian(of_one, one).reshape(size, size) for one in x]
    torch.testing.assert_close(found[:, 0], torch.stack([j.trace() for j in jacobians]))


class Plain(nn.Module):
    """A network of the user's own, with what becomes of its output."""

    def __init__(self, end, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.end = nn.Linear(4, 4, dtype=dtype), end

    def forward(self, x, c):
        return self.end(torch.sin(self.layer(x.flatten(1))).reshape(x.shape))


def test_networks_of_other_types_keep_them():
    results = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        net = Plain(lambda y: y, torch.float64).to(dtype)
        results[dtype] = Likelihood(steps=10)(ScoreModel(net, sde_named("edm")), items(3, 2, 2).float())
        assert results[dtype].nats.dtype == results[dtype].latent.dtype == torch.float64
    torch.testing.assert_close(results[torch.float32].nats, results[torch.float64].nats, rtol=0, atol=1e-4)
    torch.testing.assert_close(results[torch.bfloat16].nats, results[torch.float64].nats, rtol=0, atol=0.3)


def test_an_operation_of_the_users_own_has_a_divergence():
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            return 2 * torch.from_numpy(grad.numpy())  # takes one direction at a time

    x, sde = items(3, 4), sde_named("edm")
    ours, theirs = (
        Likelihood(steps=5)(ScoreModel(Plain(end), sde), x).nats for end in (Doubled.apply, lambda y: 2 * y)
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("end", [torch.Tensor.detach, torch.round], ids=["detach", "round"])
def test_a_model_without_a_divergence_is_refused(end):
    with pytest.raises(InputError, match=r"^divergence: it is not defined for this model; its output"):
        Likelihood(steps=5)(ScoreModel(Plain(end), sde_named("edm"), "x0"), 3 * items(3, 4))


def test_large_items_take_directions_with_an_error_and_small_ones_the_exact_trace():
    for size, products in ((100, 100), (128, 8)):
        variances = torch.linspace(0.1, 2.0, size, dtype=torch.float64)
        axes = torch.linalg.qr(items(size, size)).Q  # signs are exact on a diagonal Jacobian
        data = GaussianMixture([1.0], torch.zeros(1, size), ((axes * variances) @ axes.T)[None])
        model, x, true, prior = exact(data, sde_named("edm"))
        for solver in (None, Auto()):
            found = Likelihood(solver, steps=30)(model, x, prior=prior)
            assert found.products == products * found.nfe
            assert bool((found.error > 0).all()) == (size > 100)
            assert ((found.nats - true).abs() < 2 * found.half + 0.2).all()  # of 30 steps


def test_value_and_divergence_are_one_evaluation():
    model, x = ExactModel(mixture(), sde_named("vp")), items(3, 2)
    found = Likelihood(Heun(), steps=4)(model, x, batch_size=2)
    assert (found.nfe, found.products) == (8, 16)


def test_what_cannot_be_is_said_in_one_line():
    model, x, likelihood = ExactModel(mixture(), sde_named("vp")), items(3, 2), Likelihood(QUICK, steps=3)
    holed = x.clone()
    holed[1, 0] = math.nan
    for wrong, message in (
        (items(3, 4), r"^x: \(3, 4\) is not allowed; this model takes items of shape \(2,\)"),
        (holed, "^x: the item of 1 of 3 items is NaN or infinite, those of number 11"),
        (x[:2], "^x: .* one item for each of 3 rows"),
    ):
        with pytest.raises(InputError, match=message):
            likelihood(model, wrong, rows=range(10, 13))
    with pytest.raises(InputError, match=r"^likelihood: the density of 3 of 3 items is NaN or infinite"):
        likelihood(model, x, prior=lambda x: x[:, 0] * math.inf)
    with pytest.raises(InputError, match=r"^solver: EulerMaruyama adds noise"):
        Likelihood(solver_named("euler_maruyama"))
    with pytest.raises(
        InputError, match=r"^divergence: an exact trace of 100 samples of 1,000,000,000 values needs .* TB"
    ):
        ExactTrace().of(None, torch.zeros(1, dtype=torch.float64).expand(100, 10**9), None, 0)
