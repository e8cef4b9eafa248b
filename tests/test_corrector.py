"""Correctors: their stationary law on Gaussian data, in closed form and in the limit, and what ties them together."""

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov
from support import CORRECTORS, SDES, built, exact_model, gaussian, gaussian_law, sde_named

from scoresde import GaussianMixture, InputError
from scoresde.noise import Noise
from scoresde.sampling import AnnealedLangevin, Langevin, UnderdampedLangevin

D = 2


def numbers(seed, shape):
    """A source of normal numbers, as the sampling loop gives it."""
    draws = (Noise(seed).normal("test", k, shape, dtype=torch.float64) for k in range(1000))
    return draws.__next__


def chain(corrector, model, t):
    """One call of a corrector on Gaussian data as x -> A x + b + C z: the matrices A, b and C."""
    count, zero = 0, torch.zeros(1, D, dtype=torch.float64)

    def none():
        nonlocal count
        count += 1
        return zero

    b = corrector.correct(model, zero, t, none)
    x = torch.cat((torch.eye(D, dtype=torch.float64), torch.zeros(D * count, D, dtype=torch.float64)))
    units = torch.eye(D * count, dtype=torch.float64).reshape(D * count, count, D)
    kicks = iter(torch.cat((torch.zeros(D, D), units[:, k])) for k in range(count))
    moved = corrector.correct(model, x, t, kicks.__next__) - b
    return moved[:D].T.numpy(), b[0].numpy(), moved[D:].T.numpy()


def stationary(corrector, model, t):
    """Mean and covariance that a corrector leaves unchanged."""
    with torch.no_grad():
        a, b, c = chain(corrector, model, t)
    assert np.abs(np.linalg.eigvals(a)).max() < 1
    return np.linalg.solve(np.eye(D) - a, b), solve_discrete_lyapunov(a, c @ c.T)


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("lam", [-1.0, 0.5, 3.0])
@pytest.mark.parametrize("name", CORRECTORS)
def test_stationary_law_tends_to_that_of_the_level(name, lam, sde):
    """The error is of second order in snr, and nothing is left when that is removed."""
    model, errors = exact_model(sde_named(sde), gaussian()), []
    t = float(model.sde.t_of_lam(lam))
    exact_mean, exact_covariance = (a.numpy() for a in gaussian_law(model, t))
    for snr in (0.1, 0.1 / 2**0.5):
        size = {"step": (2 * snr) ** 2} if name == "annealed_langevin" else {"snr": snr}
        mean, covariance = stationary(built("corrector", name, **size), model, t)
        np.testing.assert_allclose(mean, exact_mean, rtol=1e-6, atol=1e-8)
        errors.append((covariance - exact_covariance) / exact_covariance.max())
    assert np.abs(errors[1]).max() == pytest.approx(np.abs(errors[0]).max() / 2, rel=0.05)
    assert np.abs(2 * errors[1] - errors[0]).max() < 2e-4


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize(("friction", "steps"), [(0.0, 1), (0.0, 3), (1.0, 2), (1.0, 5), (40.0, 3)])
def test_law_of_leapfrog_steps_in_closed_form(friction, steps, sde):
    """Leapfrog steps h keep exp(-v^2/2 - x P (1 - h^2 P / 4) x / 2) on a Gaussian of precision P, whatever turns v."""
    model, snr = exact_model(sde_named(sde), gaussian()), 0.3
    t = float(model.sde.t_of_lam(0.2))
    precision = np.linalg.inv(gaussian_law(model, t)[1].numpy())
    h = 2 * snr * model.sde.at(t).sigma
    _, covariance = stationary(UnderdampedLangevin(snr, steps, friction), model, t)
    shadow = precision @ (np.eye(D) - h**2 / 4 * precision)
    np.testing.assert_allclose(covariance, np.linalg.inv(shadow), rtol=1e-8, atol=1e-12)


def test_a_velocity_mixes_faster_for_the_same_evaluations():
    """At low noise the chain has to cross data that is wide: what is left of the start after 16 evaluations."""
    model = exact_model(sde_named("vp"), gaussian())
    t = float(model.sde.t_of_lam(2.0))

    def left(corrector):
        with torch.no_grad():
            return np.abs(np.linalg.eigvals(chain(corrector, model, t)[0])).max()

    plain, kinetic = left(Langevin(0.3, 16)), left(UnderdampedLangevin(0.3, 16, friction=0.1))
    assert kinetic < 0.9 * plain


@pytest.mark.parametrize("sde", SDES)
def test_chains_are_members_of_one_family(sde):
    """One kinetic step is one Langevin step, and annealed steps are Langevin steps under the paper's other names."""
    model = exact_model(sde_named(sde))
    t, x = float(model.sde.t_of_lam(0.4)), torch.tensor([[0.3, -1.0], [2.0, 0.1]], dtype=torch.float64)

    def moved(corrector):
        return corrector.correct(model, x, t, numbers(0, x.shape))

    torch.testing.assert_close(moved(UnderdampedLangevin(0.2, 1)), moved(Langevin(0.2)), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(moved(AnnealedLangevin(0.16, 5)), moved(Langevin(0.2, 5)), rtol=1e-10, atol=1e-12)


def test_annealed_langevin_is_the_published_algorithm():
    """Algorithm 1 of arXiv 1907.05600, with its own names, on a geometric ladder of noise without drift (VE)."""
    model = exact_model(sde_named("ve"))
    epsilon, lowest = 2e-5, 0.01
    for sigma in (1.0, 0.1, 0.01):
        t = float(model.sde.t_of_lam(-np.log(sigma)))
        x = torch.tensor([[0.3, -1.0], [2.0, 0.1]], dtype=torch.float64)
        actual = AnnealedLangevin(epsilon / lowest**2, steps=7).correct(model, x, t, numbers(1, x.shape))
        noise, alpha_i = numbers(1, x.shape), epsilon * sigma**2 / lowest**2
        for _ in range(7):
            x = x + alpha_i / 2 * model(x, t).score + alpha_i**0.5 * noise()
        torch.testing.assert_close(actual, x, rtol=1e-9, atol=1e-10)


def test_annealed_langevin_is_the_same_chain_in_every_coordinate():
    """In x / alpha, whose noise is sigma / alpha, it is one chain for all SDEs."""
    results = []
    for name in SDES:
        model = exact_model(sde_named(name))
        t = float(model.sde.t_of_lam(0.7))
        y = torch.tensor([[0.3, -1.0], [2.0, 0.1]], dtype=torch.float64)
        alpha = model.sde.at(t).alpha
        results.append(AnnealedLangevin(steps=3).correct(model, alpha * y, t, numbers(2, y.shape)) / alpha)
    for y in results:
        torch.testing.assert_close(y, results[0], rtol=1e-7, atol=1e-7)


def test_norm_rule_has_no_limit_in_few_dimensions_and_is_refused():
    model = exact_model(sde_named("vp"), gaussian())
    with pytest.raises(InputError, match="rule: 'norm' has no correct limit in 2 dimensions; it needs at least 64"):
        Langevin(rule="norm").correct(model, torch.ones(3, 2), 0.5, numbers(0, (3, 2)))


def test_norm_rule_steps_as_published():
    """The step is e score + sqrt(2 e) z with sqrt(e/2) = snr |z| / |score|, sample by sample."""
    d, snr = 64, 0.16
    model = exact_model(sde_named("vp"), GaussianMixture([1.0], torch.zeros(1, d), torch.eye(d)[None]))
    x, z = (torch.randn(5, d, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (0, 1))

    def step(z):
        return Langevin(snr=snr, rule="norm").correct(model, x, 0.5, lambda: z)

    assert (step(1e-300 * z) - x).norm() == 0  # vanishing noise makes a vanishing step
    score = model(x, 0.5).score
    moved = step(z) - x
    # the part along neither z nor score is zero; solve for the two factors of each sample
    for k in range(5):
        basis = torch.stack((score[k], z[k]), dim=1)
        (e, noise), *_ = torch.linalg.lstsq(basis, moved[k, :, None])[0].T.tolist()
        assert noise == pytest.approx((2 * e) ** 0.5, rel=1e-9)
        assert (e / 2) ** 0.5 == pytest.approx(snr * float(z[k].norm() / score[k].norm()), rel=1e-9)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Langevin(snr=-0.1), "snr"),
        (lambda: Langevin(steps=0), "steps"),
        (lambda: Langevin(rule="step"), "rule"),
        (lambda: AnnealedLangevin(step=4.0), r"step: 4\.0 is not allowed; give a number in \(0, 4\)"),
        (lambda: AnnealedLangevin(steps=0), "steps"),
        (lambda: UnderdampedLangevin(snr=1.0), r"snr: 1\.0 is not allowed; give a number in \(0, 1\)"),
        (lambda: UnderdampedLangevin(steps=0), "steps"),
        (lambda: UnderdampedLangevin(friction=-1.0), "friction"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError, match=text):
        make()
