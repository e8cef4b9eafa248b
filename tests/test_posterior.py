"""Posterior methods: exact where they claim it, their distributions propagated and not sampled, on every SDE."""

import copy

import pytest
import torch
from support import PATHS, mixture, options, sde_named, solver_named
from torch import Tensor, nn

from scoresde import ExactModel, GaussianMixture, InputError, Sampler, ScoreModel, Wrapper, count_evaluations
from scoresde.nets import ResidualMLP
from scoresde.noise import Noise
from scoresde.observation import Observation, Projection, conjugate_gradients
from scoresde.posterior import DAPS, DPS, MMPS, DiffPIR, Gibbs, PiGDM, Population, Posterior, RePaint, Replace
from scoresde.posterior.population import Crowd
from scoresde.posterior.projected import arnoldi, whole
from scoresde.sampling import Ancestral, ExponentialMultistep, LambdaUniform
from scoresde.sde import SDE

METHODS = options("posterior")
D, SIGMA = 4, 0.3
EYE = torch.eye(D, dtype=torch.float64)


def normal(name: str, *shape: int) -> Tensor:
    return Noise(0).normal(name, 0, shape, dtype=torch.float64)


ROOT, MEAN = normal("root", D, D), normal("mean", D)
COVARIANCE = ROOT @ ROOT.T / D + 0.2 * EYE
A, Y = normal("A", 2, D), normal("y", 2)


def prior(sde: str, covariance: Tensor = COVARIANCE) -> ExactModel:
    return ExactModel(GaussianMixture([1.0], MEAN[None], covariance[None]), sde_named(sde))


def given_y(covariance: Tensor = COVARIANCE, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the Gaussian given y, whose noise has some covariance."""
    noise = SIGMA**2 * torch.eye(2, dtype=torch.float64) if noise is None else noise
    gain = torch.linalg.solve(A @ covariance @ A.T + noise, A @ covariance).T
    left = covariance - gain @ A @ covariance
    return MEAN + gain @ (Y - A @ MEAN), (left + left.T) / 2


def seen(sigma_y: float = SIGMA) -> Projection:
    return Projection((D,), matrix=A, sigma_y=sigma_y)


def exact(sde: str, covariance: Tensor = COVARIANCE) -> ExactModel:
    mean, covariance = given_y(covariance)
    return ExactModel(GaussianMixture([1.0], mean[None], covariance[None]), sde_named(sde))


def states(sde: SDE, share: float, n: int = 3) -> tuple[Tensor, float]:
    t = share * sde.T
    level = sde.at(t)
    return level.alpha * normal("x0", n, D) + level.sigma * normal("eps", n, D), t


class Bent(Observation):
    """The same A, as if it were not linear; or its squares."""

    linear = False

    def __init__(self, power: int = 1) -> None:
        super().__init__((D,), SIGMA)
        self.power = power

    def forward(self, x: Tensor) -> Tensor:
        return (x @ A.T.to(x)) ** self.power


# ---- conditional means ----


@pytest.mark.parametrize("sde", [*PATHS, "discrete"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_mmps_is_the_exact_conditional_mean_of_gaussian_data(sde, share):
    x, t = states(sde_named(sde), share)
    wanted = exact(sde)(x, t).x0
    for method in (MMPS(), MMPS(tolerance=1e-12, dense=0)):
        assert (Posterior(prior(sde), seen(), Y, method)(x, t).x0 - wanted).abs().max() < 1e-10
    each = torch.full((len(x),), t, dtype=torch.float64)
    assert (Posterior(prior(sde), Bent(), Y)(x, each).x0 - wanted).abs().max() < 1e-10


def test_one_step_is_not_enough_and_said_once(capsys):
    x, t = states(sde_named("vp"), 0.3)
    once = Posterior(prior("vp"), seen(), Y, MMPS(iterations=1, dense=0, tolerance=1.1e-4))
    assert (once(x, t).x0 - exact("vp")(x, t).x0).abs().max() > 1e-3
    said = capsys.readouterr().err
    assert "residual" in said
    assert "raise iterations" in said
    assert said.count("\n") == 1
    once(x, t)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("scale", "spoken"), [(1.0, False), (100.0, True)])
def test_of_a_network_only_a_missed_y_is_said(scale, spoken, capsys):
    """At little noise one step does where A is well conditioned, whatever its residual; else y is missed."""
    sde, spread = sde_named("vp"), torch.linspace(0.3, 1.7, 24, dtype=torch.float64)
    method, matrix = MMPS(iterations=1, tolerance=1e-9 * scale), normal("rows", 20, 24) / 24**0.5
    matrix = matrix * torch.logspace(0, float(torch.tensor(scale).log10()), 20, dtype=torch.float64)[:, None]
    for level, said in ((8.0, False), (0.5, spoken)):  # noise of x, in that of y
        t = float(sde.t_of_lam(-torch.tensor(0.05 * level, dtype=torch.float64).log()))
        share = spread**2 / (sde.at(t).alpha ** 2 * spread**2 + sde.at(t).sigma ** 2) * sde.at(t).alpha
        model = ScoreModel(Fixed(lambda x, share=share: share.to(x) * x), sde, "x0", sigma_data=1.0)
        asked = Posterior(model, Projection((24,), matrix=matrix, sigma_y=0.05), matrix @ normal("item", 24), method)
        x = sde.at(t).alpha * normal("item", 24)[None] + sde.at(t).sigma * normal("noise", 1, 24)
        asked(x, t)
        assert ("sigma_y away from y in MMPS" in capsys.readouterr().err) == said


class Fixed(nn.Module):
    """A network that gives what a function of x gives, at all levels."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x, c):
        return self.function(x)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_what_makes_networks_safe_leaves_an_exact_one_alone(share):
    x, t = states(sde_named("vp"), share)
    model = ScoreModel(Fixed(lambda x: prior("vp")(x, t).x0), sde_named("vp"), "x0", sigma_data=1.0)
    for method in (MMPS(), MMPS(tolerance=1e-12, dense=0)):
        assert (Posterior(model, seen(), Y, method)(x, t).x0 - exact("vp")(x, t).x0).abs().max() < 1e-10


def test_systems_of_symmetric_matrices_are_solved_as_by_conjugate_gradients():
    root, b = normal("root", 6, 20, 20), normal("b", 6, 20)
    a, s = root @ root.mT / 20, 0.1

    def gain(u):
        return torch.einsum("bij,kbj->kbi", a, u)

    wanted, _ = conjugate_gradients(lambda u: gain(u[None])[0] + s * u, b)
    for steps, tolerance in ((20, 0.0), (18, 1e-3)):
        step, energy, residual = arnoldi(gain, lambda v: v, b, s, steps, tolerance)
        error = (gain(wanted[None])[0] - step).norm(dim=1)
        assert (error <= 1e-8 + 20 * tolerance * b.norm(dim=1)).all()
        assert (residual <= max(tolerance, 1e-8)).all()
        alone = arnoldi(lambda u: torch.einsum("ij,kbj->kbi", a[2], u), lambda v: v, b[2:3], s, steps, tolerance)
        assert (alone[0] - step[2]).abs().max() < 1e-10  # whatever the others in the batch need
    assert ((gain(wanted[None])[0] * wanted).sum(1) / energy - 1).abs().max() < 0.1


def test_of_matrices_that_are_none_of_a_covariance_the_positive_part_is_solved():
    a, b, s = normal("a", 6, 20, 20), normal("b", 6, 20), 0.1

    def gain(u):
        return torch.einsum("bij,kbj->kbi", a, u)

    step, energy, _ = arnoldi(gain, lambda v: v, b, s, 20, 0.0)
    for found, other in zip((step, energy), whole(gain, lambda v: v, b, s), strict=False):
        assert (found - other).abs().max() < 1e-8
    u = torch.linalg.solve(a, step[..., None])[..., 0]
    assert (u.norm(dim=1) <= b.norm(dim=1) / s).all()


@pytest.mark.parametrize("method", [MMPS(), MMPS(dense=32), PiGDM()])
def test_samples_of_a_network_whose_jacobian_is_no_covariance_stay_near_the_data(method):
    turn = 0.3 * normal("turn", 24, 24)
    net = Fixed(lambda x: x + 0.1 * (3 * x @ turn.to(x)).sin())  # predicts noise, with an error
    model = ScoreModel(net, sde_named("vp"), "eps", sigma_data=1.0)
    asked = Posterior(model, Projection((24,), rows=20, sigma_y=0.05), normal("y24", 20), method)
    sampler = Sampler(Ancestral(), steps=20)
    guided, plain = (sampler.sample(m, (24,), n=8).x.norm(dim=1).max() for m in (asked, model))
    assert guided < 3 * plain


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("broken", [Tensor.detach, Tensor.round])
def test_a_network_without_derivative_is_refused_where_one_is_needed(method, broken):
    model = ScoreModel(Fixed(lambda x: broken(3 * x).cos()), sde_named("vp"), "eps")
    if method not in ("mmps", "pigdm", "dps", "twisted"):
        Posterior(model, seen(), Y, method)
        return
    with pytest.raises(InputError, match="no derivative") as error:
        Posterior(model, seen(), Y, method)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sde", PATHS)
def test_isotropic_methods_are_exact_where_data_are_isotropic(sde):
    sd, (x, t) = 0.8, states(sde_named(sde), 0.4)
    model, wanted = prior(sde, sd**2 * EYE), exact(sde, sd**2 * EYE)(x, t).x0
    s2 = float(torch.exp(-2 * model.sde.lam(t)))
    for method in (PiGDM(sigma_data=sd), DiffPIR(lam=(s2 + sd**2) / sd**2)):
        assert (Posterior(model, seen(), Y, method)(x, t).x0 - wanted).abs().max() < 1e-10
    model.sigma_data = sd
    assert (Posterior(model, seen(), Y, "pigdm")(x, t).x0 - wanted).abs().max() < 1e-10


# ---- steps between those of the solver ----


@pytest.mark.parametrize("method", [Replace(), RePaint(repeats=2, jump=2)])
def test_what_is_seen_is_replaced_at_each_level_and_the_rest_ends_without_noise(method):
    model = prior("vp")
    asked = Posterior(model, seen(), Y, method)
    sampler = Sampler(Ancestral(), steps=40)
    path = list(sampler.trajectory(asked, rows=range(20), dtype=torch.float64))
    level, x, z = model.sde.at(0.4), normal("x", 3, D), normal("z", 3, D)
    replaced = method.replaced(asked)(x, 0.4, lambda: z)
    assert (replaced @ A.T - level.alpha * Y - level.sigma * z @ A.T).abs().max() < 1e-12
    rest = EYE - torch.linalg.pinv(A) @ A
    assert ((replaced - x) @ rest).abs().max() < 1e-12
    at_end = path[-2][1] @ A.T - model.sde.at(path[-2][0]).alpha * Y  # nothing but the noise of that level
    assert at_end.abs().max() < 6 * model.sde.at(path[-2][0]).sigma * A.norm()
    (before, x), (_, last) = path[-2:]
    assert (last @ A.T - Y).abs().max() < 1e-12
    assert ((last - model(x, before).x0) @ rest).abs().max() < 1e-12


def test_resampling_goes_back_by_the_forward_process():
    """The exact distribution at the end of a stretch becomes that at its beginning, which the next pass starts from."""
    sde = sde_named("vp")
    times, starts = torch.tensor([0.5, 0.4, 0.3], dtype=torch.float64), []

    class Watched(Ancestral):
        def integrate(self, model, times, x, noise, corrector=None):
            starts.append((float(times[0]), x))
            return super().integrate(model, times, x, noise, corrector)

    asked = Posterior(prior("vp"), seen(), Y, RePaint(repeats=2, jump=2))
    unit = torch.zeros(1, D, dtype=torch.float64)
    list(asked.method.carry(Watched(), asked, times, unit, Noise(3), None))
    list(asked.method.carry(Watched(), asked, times, unit, Noise(4), None))
    path = list(asked.method.carry(Watched(), asked, times, unit, Noise(3), None))
    (_, first), (t, again) = starts[:2]
    low, high = sde.at(0.3), sde.at(0.5)
    z = Noise(3).normal("stretch 0 1 back", 0, (1, D), dtype=torch.float64)
    added = again - high.alpha / low.alpha * path[1][1]
    # what is added is independent noise, and variances add up to those of the level
    assert t == 0.5
    assert (first == unit).all()
    variance = float((added / z).square().mean())
    assert abs(variance + (high.alpha / low.alpha * low.sigma) ** 2 - high.sigma**2) < 1e-12
    assert len(path) == 4


def test_the_move_of_dps_is_the_gradient_of_each_sample_whatever_the_batch():
    model, y, zeta = ExactModel(mixture(), sde_named("vp")), torch.tensor([0.4], dtype=torch.float64), 0.3
    one = Projection((2,), matrix=[[0.6, -1.1]], sigma_y=0.1)
    times, x = torch.tensor([0.4, 0.3], dtype=torch.float64), normal("dps", 5, 2)

    def step(method: str | DPS, x: Tensor) -> Tensor:
        asked = Posterior(model, one, y, method)
        solver = Sampler(Ancestral(eta=0.0), steps=2).suited(asked).solver
        *_, (_, out) = solver.integrate(asked, times, x, Noise(0))
        return out

    def distance(x: Tensor) -> Tensor:
        return (y - one(model(x, 0.4).x0)).norm(dim=1)

    plain = Ancestral(eta=0.0).integrate(model, times, x, Noise(0))
    moved = step(DPS(zeta), x) - next(plain)[1]
    h = 1e-5
    for axis in torch.eye(2, dtype=torch.float64):
        slope = (distance(x + h * axis) - distance(x - h * axis)) / (2 * h)
        assert (moved @ axis + zeta * slope).abs().max() < 1e-8
    assert (step(DPS(zeta), x[:2]) - step(DPS(zeta), x)[:2]).abs().max() < 1e-12


class Units:
    """In row k of the batch the k-th number ever asked for is one; all others are zero, and all are in row 0."""

    def __init__(self) -> None:
        self.first: dict[tuple[str, int], int] = {}
        self.count = 1

    def normal(self, purpose, step, shape, device="cpu", dtype=torch.float64):
        if (purpose, step) not in self.first:
            self.first[purpose, step], self.count = self.count, self.count + shape[1]
        first = self.first[purpose, step]
        z = torch.zeros(shape, dtype=torch.float64)
        if first + shape[1] <= shape[0]:
            z[range(first, first + shape[1]), range(shape[1])] = 1.0
        return z


def affine(method: DAPS | Gibbs, s: float) -> tuple[Tensor, Tensor, Tensor]:
    """How a method goes from x0 to x / alpha: constant, map of x0 and covariance of its noise."""
    asked, units, rows = Posterior(prior("vp"), seen(), Y, method), Units(), 1
    for _ in range(2):  # first how many numbers there are
        units = Units()
        x0 = units.normal("x0", 0, (rows, D))
        out = method.noised(asked, x0, s, lambda purpose, like, units=units: units.normal(purpose, 0, like.shape))
        rows = units.count
    moved = out[1:] - out[0]
    return out[0], moved[:D].T, moved[D:].T @ moved[D:]


@pytest.mark.parametrize("s", [0.05, 0.4, 3.0])
def test_the_step_of_gibbs_leaves_its_distribution_unchanged(s):
    constant, forward, noise = affine(Gibbs(), s)
    mean, covariance = given_y(noise=SIGMA**2 * torch.eye(2, dtype=torch.float64) + s**2 * A @ A.T)
    z_mean, z_covariance = constant + forward @ mean, forward @ covariance @ forward.T + noise
    gain = torch.linalg.solve(COVARIANCE + s**2 * EYE, COVARIANCE).T  # and back: x0 given z, exactly
    back = gain @ z_covariance @ gain.T + COVARIANCE - gain @ COVARIANCE
    assert (MEAN + gain @ (z_mean - MEAN) - mean).abs().max() < 1e-10
    assert (back - covariance).abs().max() < 1e-10


def test_langevin_steps_of_daps_reach_their_gaussian():
    s, found = 0.3, []
    precision = EYE / s**2 + A.T @ A / SIGMA**2
    for step, steps in ((0.2, 400), (0.1, 800)):
        constant, forward, noise = affine(DAPS(langevin=steps, step=step), s)
        assert (precision @ forward - EYE / s**2).abs().max() < 1e-3 / s**2
        assert (precision @ constant - A.T @ Y / SIGMA**2).abs().max() < 1e-2
        found.append(precision @ (noise - s**2 * EYE) - EYE)
    assert found[1].abs().max() < 0.6 * found[0].abs().max()
    assert (2 * found[1] - found[0]).abs().max() < 4e-3  # without the bias of the steps, which is of first order


class Skipped:
    """Numbers without those of resampling."""

    def __init__(self, units: Units) -> None:
        self.units = units

    def normal(self, purpose, step, shape, device="cpu", dtype=torch.float64):
        if purpose.endswith("resample"):
            return torch.zeros(shape, dtype=dtype)
        return self.units.normal(purpose, step, shape, device, dtype)


def test_gibbs_tends_to_the_posterior():
    """Affine on Gaussian data: mean and covariance by unit numbers, and they come closer with steps and evaluations."""
    mean, covariance = given_y()
    asked, found = Posterior(prior("vp"), seen(), Y), []
    for steps in (24, 48):
        asked.method = Gibbs(inner=24)
        rule, rows = solver_named("dpmpp_2m", eta=1.0), 1
        sampler = Sampler(rule, LambdaUniform(), steps).suited(asked)
        for _ in range(2):  # first how many numbers there are
            units = Units()
            with torch.no_grad():
                *_, (_, x) = sampler.path(asked, asked.sde.prior_std * units.normal("prior", 0, (rows, D)), units)
            rows = units.count
        moved = x[1:] - x[0]
        found.append(torch.cat(((x[0] - mean)[None], moved.T @ moved - covariance)))
    assert found[1].abs().max() < 0.6 * found[0].abs().max()
    ahead = 2 * found[1] - found[0]  # without the lag behind the falling level, which is of order 1 / steps
    assert ahead[1:].abs().max() < 0.01
    assert ahead[0].abs().max() < 0.1


def test_moves_of_a_population_keep_the_distribution_of_gaussian_data():
    """Affine on Gaussian data: mean and covariance by unit numbers, from the distribution and from another one."""
    level, t = sde_named("vp").at(0.3), 0.3
    mean, covariance = given_y(COVARIANCE + (level.sigma / level.alpha) ** 2 * EYE)
    root = torch.linalg.cholesky(covariance)
    for moves, apart, error in ((120, 1.0, 1e-6), (6, 0.0, 0.02)):  # the velocity at the start fades
        asked, rows = Posterior(prior("vp"), seen(), Y, Population(moves=moves, step=1.2)), 1
        for _ in range(2):  # first how many numbers there are
            units = Units()
            start = mean + apart + units.normal("start of z", 0, (rows, D)) @ root.T
            z = asked.method.moved(asked, asked.model, start, t, units)
            rows = units.count
        moved = z[1:] - z[0]
        assert (z[0] - mean).abs().max() < error
        assert (moved.T @ moved - covariance).abs().max() < error


def test_a_population_ends_near_the_posterior_also_without_its_weights():
    """Samples with a y each are not resampled: at the last level they reach its distribution, by unit numbers."""
    method, rows = Population(inner=32, moves=60, first=2), 1
    for _ in range(2):  # first how many numbers there are
        units, asked = Units(), Posterior(prior("vp"), seen(1.0), Y + 1e-9 * torch.arange(rows)[:, None], method)
        sampler = Sampler(solver_named("seeds_2"), steps=1).suited(asked)
        start = asked.sde.prior_std * units.normal("prior", 0, (rows, D))
        with torch.no_grad():
            (_, (t, _), (end, x)) = sampler.path(asked, start, Skipped(units))
        rows = units.count
    noise = torch.eye(2, dtype=torch.float64) + float(asked.noise_ratio(t)) * A @ A.T
    mean, covariance = given_y(noise=noise)
    moved = x[1:] - x[0]
    assert end == 0
    assert (x[0] - mean).abs().max() < 0.016
    assert (moved.T @ moved - covariance).abs().max() < 0.016
    wide = torch.linalg.eigvalsh(noise)[-1]  # of the weights from there to s = 0, where y decides, 80 % of
    assert 0.75 < float(torch.sqrt(2 * wide - 1) / wide) ** 2 < 0.95  # two numbers are effective if both are so wide


def test_levels_of_a_population_are_equally_far_apart():
    """The log weights from one to the next have the same variance, of data N(0, I) and what is left of them."""
    asked = Posterior(prior("vp"), seen(), Y, Population())
    times = torch.linspace(1.0, 0.0, 400, dtype=torch.float64)
    s2 = torch.tensor([float(asked.noise_ratio(t)) for t in asked.method.levels(asked, times, MEAN[None])])
    gain = torch.linalg.eigvalsh(A @ A.T)[-1]
    noise = SIGMA**2 + s2 * gain
    left = gain * noise / (gain + noise)  # variance of what is seen of the data, given y
    std = (left[1:] + left[:-1]) / 2 * (1 / noise).diff() / 2**0.5
    assert (std[5:] / std[-1] - 1).abs().max() < 0.01


def test_weights_of_a_population_are_those_of_its_levels():
    asked, x0 = Posterior(prior("vp"), seen(), Y, "population"), normal("crowd", 50, D)
    crowd, before = Crowd(asked, x0), torch.inf
    for s in (2.0, 0.3, 0.0):
        assert (crowd.resampled(x0, before, s, Noise(0), 0.0) == x0).all()
        noise = SIGMA**2 * torch.eye(2, dtype=torch.float64) + s**2 * A @ A.T
        wanted = torch.distributions.MultivariateNormal(Y, noise).log_prob(x0 @ A.T)
        assert (crowd.weights - wanted - (crowd.weights - wanted)[0]).abs().max() < 1e-9
        before = s
    assert (Crowd(asked, x0).resampled(x0, torch.inf, torch.inf, Noise(0), 1.1) == x0).all()  # equal ones, once each
    share = torch.softmax(crowd.weights, 0)
    taken = crowd.resampled(x0, 0.0, 0.0, Noise(0), 1.0)
    times = (taken[:, None] == x0).all(-1).sum(0)
    assert ((times - 50 * share).abs() < 1).all()
    assert (crowd.weights == 0).all()


def test_a_population_finds_the_weights_of_modes_that_gibbs_does_not():
    data = GaussianMixture([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.5]], [[[0.05, 0.0], [0.0, 0.05]]] * 2)
    one = Projection((2,), matrix=[[0.0, 1.0]], sigma_y=0.2)
    wanted = float(data.posterior(one.matrix(), [0.05], 0.2).weights[0])
    shares = []
    for method in (Gibbs(), "population"):
        asked = Posterior(ExactModel(data, sde_named("vp")), one, torch.tensor([0.05]), method)
        drawn = Sampler(solver_named("dpmpp_2m", eta=1.0), steps=8).sample(asked, n=2000, batch_size=2000)
        shares.append(float((drawn.x[:, 0] < 0).float().mean()))
    assert abs(shares[1] - wanted) < 0.04 < abs(shares[0] - wanted)


def test_a_population_that_collapses_is_said_once(capsys):
    asked = Posterior(prior("vp"), seen(0.001), Y + 9, "population")
    for _ in range(2):
        Sampler(Ancestral(), steps=1).sample(asked, n=7)
    said = [line for line in capsys.readouterr().err.splitlines() if "effective" in line]
    assert len(said) == 1
    assert "more steps" in said[0]


# ---- counts, rows, batches ----


def test_products_and_evaluations_are_counted():
    model = prior("vp")
    wanted = {"mmps": (6, 12), "pigdm": (6, 6), "dps": (6, 5), "diffpir": (6, 0), "replace": (6, 0), "daps": (26, 0)}
    for method, counts in wanted.items():
        drawn = Sampler(Ancestral(), steps=6).sample(Posterior(model, seen(), Y, method), n=3, batch_size=2)
        assert (drawn.nfe, drawn.products) == counts, method
    repeated = Posterior(model, seen(), Y, RePaint(repeats=3, jump=2))
    assert Sampler(Ancestral(), steps=6).sample(repeated, n=1).nfe == 3 * 5 + 1
    with count_evaluations() as spent:
        Posterior(model, seen(), Y, MMPS(dense=0))(*states(model.sde, 0.3))
    assert spent.samples == 3
    assert spent.products == 3 * 2


@pytest.mark.parametrize("method", METHODS)
def test_each_sample_has_its_row_of_y_whatever_the_batch(method):
    rows = torch.stack([Y, Y + 5.0])
    asked = Posterior(prior("vp"), seen(), rows, method)
    sampler = Sampler(Ancestral(), steps=12)
    whole = sampler.sample(asked, n=4, dtype=torch.float64, batch_size=4).x
    if method == "population":  # which depends on the batch
        assert ((whole[::2].mean(0) - whole[1::2].mean(0)) @ A.T).abs().max() > 1
        return
    parts = sampler.sample(asked, n=4, dtype=torch.float64, batch_size=3).x
    assert (whole - parts).abs().max() < 1e-9
    own = sampler.sample(Posterior(prior("vp"), seen(), rows[1], method), n=4, dtype=torch.float64).x
    assert (whole[1::2] - own[1::2]).abs().max() < 1e-9
    assert (whole[::2] - own[::2]).abs().max() > 0.1


class Same(Wrapper):
    def forward(self, x, t, cond=None):
        return self.model(x, t, cond)


SOLVERS = ["auto", "dpmpp_3m", "sde_dpmpp_2m", "restart", "adaptive_bosh3", "scipy"]


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_kind_of_solver(solver):
    rule = solver_named(solver)
    for method in METHODS:
        if method == "twisted":  # which takes few, see test_twisted
            continue
        asked, of_ode = Posterior(prior("vp"), seen(), Y, method), rule.eta == 0
        if method in ("gibbs", "population") and of_ode and "eta" not in vars(rule):
            with pytest.raises(InputError, match=f"solver: {method} needs .* which {rule.called} is not; use auto"):
                Sampler(rule, steps=6).sample(asked, n=2)
            continue
        drawn = Sampler(rule, steps=6).sample(asked, n=2, dtype=torch.float64)
        assert torch.isfinite(drawn.x).all()
        if method == "mmps" and of_ode and solver != "restart":
            other = Sampler(rule, steps=6).sample(exact("vp"), n=2, dtype=torch.float64)
            assert (drawn.x - other.x).abs().max() < 1e-7 or solver == "scipy"


@pytest.mark.parametrize("shape", [(1,), (2, 3), (3, 4, 4), (1, 2, 3, 2)])
def test_networks_of_every_shape(shape):
    torch.manual_seed(0)
    net = ResidualMLP(shape, width=8, blocks=1)
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.3)
    model, one = ScoreModel(net, sde_named("vp")), Projection(shape, rows=1, sigma_y=0.2)
    for method in METHODS:
        drawn = Sampler(steps=4).sample(Posterior(model, one, torch.zeros(1), method), n=2)
        assert drawn.x.shape == (2, *shape)
        assert drawn.x.dtype == torch.float32
    assert all(weight.grad is None for weight in net.parameters())


def test_wrappers_around_a_posterior_and_copies_of_it():
    model = prior("vp")
    asked = Posterior(model, seen(), Y, "replace")
    sampler, plain = (
        Sampler(Ancestral(), steps=5),
        lambda m: Sampler(Ancestral(), steps=5).sample(m, n=2, dtype=torch.float64).x,
    )
    outer = Same(asked)
    assert torch.equal(plain(asked), plain(copy.deepcopy(asked)))
    assert torch.equal(plain(asked), plain(outer))
    once = sampler.suited(outer)
    assert once.suited(outer).solver is once.solver
    assert isinstance(sampler.solver, Ancestral)
    assert asked.cost == model.cost
    assert Sampler().suited(Posterior(model, seen(), Y, "gibbs")).solver.inner.eta == 1


# ---- bad input ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((seen(), Y[:1]), "y"),
        ((seen(), Y * torch.nan), "y"),
        ((Projection((3,), rows=1), Y[:1]), "event_shape"),
        ((Bent(2), Y, "pigdm"), "linear"),
        ((seen(0.0), Y, "daps"), "sigma_y"),
        ((seen(), Y, "mmp"), "mmps"),
        ((seen(), Y, 3), "method: 'int'"),
        ((seen(), Y, MMPS), "method: 'ABCMeta'"),
        ((torch.sin, Y), "observation: 'builtin_function_or_method'"),
        ((seen(), None), "y: it is no array of numbers"),
        ((seen(), [[1.0], [1.0, 2.0]]), "y: it is no array of numbers"),
        ((seen(), Y * 1j), "y: 'torch.complex"),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(InputError, match=words) as error:
        Posterior(prior("vp"), *arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["replace", "pigdm", "gibbs"])
def test_what_follows_from_the_rest_is_refused_where_it_has_to_be_inverted(method):
    rows = torch.tensor([[1.0, 0.3, 0.0, 0.2], [0.0, 0.7, 0.1, 0.5]], dtype=torch.float64)
    both = Projection((4,), matrix=torch.cat([rows, 0.1 * rows[:1] + 0.2 * rows[1:]]), sigma_y=0)
    with pytest.raises(InputError, match=r"observation: part of what is seen follows from the rest, .*posterior=mmps"):
        Sampler(steps=2).sample(Posterior(prior("vp"), both, torch.zeros(3), method), n=2)
    assert torch.isfinite(Sampler(steps=2).sample(Posterior(prior("vp"), both, torch.zeros(3)), n=2).x).all()


def test_messages_name_the_solver_and_the_method():
    sampler = Sampler(ExponentialMultistep(predictor=3), steps=3).suited(Posterior(prior("vp"), seen(), Y, "replace"))
    with pytest.raises(InputError, match="ExponentialMultistep with Replace needs an integer >= 3"):
        sampler.solver.check_steps(2)
    with pytest.raises(InputError, match=r"times: ExponentialMultistep with Replace runs from noise to data only"):
        sampler.sample(prior("vp"), at=0.1, to=0.9, start=torch.zeros(1, 4))


def test_a_posterior_of_a_posterior_and_steps_without_one():
    asked = Posterior(prior("vp"), seen(), Y, "replace")
    with pytest.raises(InputError, match="observation"):
        Posterior(asked, seen(), Y)
    with pytest.raises(InputError, match="posterior"):
        Sampler(steps=3).suited(asked).sample(prior("vp"), n=1)
