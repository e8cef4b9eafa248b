"""The kernel Stein discrepancy against automatic derivatives, and zero for exact draws of a posterior."""

import pytest
import torch
from support import mixture

from scoresde import InputError
from scoresde.metrics import kernel_stein


def score_of(distribution, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(distribution.log_prob(x).sum(), x)[0]


def test_it_is_that_of_automatic_derivatives():
    x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    s = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def k(a, b):
        return (0.7**2 + (a - b).square().sum()) ** -0.5

    a, b = x
    of_a, of_b = (torch.func.grad(k, argnums=i)(a, b) for i in (0, 1))
    trace = torch.func.jacrev(torch.func.grad(k, argnums=0), argnums=1)(a, b).trace()
    wanted = s[0] @ s[1] * k(a, b) + s[0] @ of_b + s[1] @ of_a + trace
    assert kernel_stein(x, s, 0.7).value == pytest.approx(float(wanted), rel=1e-12)


def test_it_is_zero_on_average_for_exact_draws_of_a_posterior_and_else_positive():
    """The score is that of the prior plus grad log p(y | x)."""
    prior, a, y, sigma_y = mixture(), torch.tensor([[0.8, -0.6]]).double(), 0.4, 0.3
    exact = prior.posterior(a, [y], sigma_y)

    def score(x):
        return score_of(prior, x) + (y - x @ a.T) @ a / sigma_y**2

    found = [kernel_stein(x, score(x)) for x in (exact.sample(100, seed) for seed in range(100))]
    values = torch.tensor([one.value for one in found])
    assert abs(float(values.mean())) < 4 * float(values.std()) / 10
    assert sum(abs(one.value) < one.half for one in found) >= 89  # fewer of 100 have a chance of 1 % at 95 %
    for wrong in (1.1 * exact.sample(2000), exact.sample(2000) + 0.1, prior.sample(2000)):
        one = kernel_stein(wrong, score(wrong))
        assert one.value > one.half


def test_bad_input_is_named():
    with pytest.raises(InputError, match=r"score: \(3, 1\) .* \(3, 2\)"):
        kernel_stein(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(InputError, match=r"x: .* two samples"):
        kernel_stein(torch.zeros(1, 2), torch.zeros(1, 2))
