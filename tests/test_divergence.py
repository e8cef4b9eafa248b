"""Estimates of a divergence: unbiased, exact where they can be, and with errors that are true."""

import pytest
import torch

from scoresde import ExactModel, GaussianMixture, InputError, Likelihood, grid, sde, solver
from scoresde.divergence import ExactTrace, Hutchinson, XTrace
from scoresde.divergence.xtrace import _leave_one_out
from scoresde.likelihood import allocated
from scoresde.noise import Noise

D = 6
KINDS = ("signs", "gaussian", "orthogonal", "hadamard")
ESTIMATES = [
    *(Hutchinson(4, kind, fresh=True) for kind in KINDS),
    Hutchinson(4, "hadamard", fresh=True, groups=1, counts=(2, 1)),
    *(XTrace(2, groups=groups) for groups in (1, 2)),
]


def matrix(seed=0):
    return Noise(seed).normal("matrix", 0, (D, D), dtype=torch.float64) + torch.eye(D, dtype=torch.float64)


def traces(divergence, j, n=1, evaluations=range(1)):
    """The mean over evaluations of the columns (n, columns), for x -> J x of events (2, 3)."""

    def normal(count, step):
        return Noise(0, range(n)).normal("v", step, (n, count, 2, D // 2), dtype=torch.float64).transpose(0, 1)

    x = torch.zeros(n, 2, D // 2, dtype=torch.float64)
    found = [divergence.of(lambda x: (x.flatten(1) @ j.T).reshape(x.shape), x, normal, k)[1] for k in evaluations]
    return torch.stack(found).mean(0)


@pytest.mark.parametrize("divergence", ESTIMATES, ids=repr)
def test_estimates_are_unbiased_and_their_errors_true(divergence):
    j, n = matrix() @ matrix().T, 20_000
    value, error = divergence.estimate(traces(divergence, j, n))
    off = value - j.trace()
    assert abs(float(off.mean())) < 4 * float(off.std()) / n**0.5
    if divergence.columns > 1 and divergence != XTrace(2):
        assert float(error.square().mean() / off.square().mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("divergence", [*ESTIMATES, Hutchinson(2, "orthogonal"), XTrace(2, groups=3)], ids=repr)
@pytest.mark.parametrize("c", [0.0, 1e-20, -3.0])
def test_a_multiple_of_the_identity_is_exact(divergence, c):
    found = traces(divergence, c * torch.eye(D, dtype=torch.float64), n=3)
    torch.testing.assert_close(found, torch.full_like(found, c * D), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "divergence",
    [
        ExactTrace(), Hutchinson(D, "orthogonal", groups=1), XTrace(3), XTrace(3, groups=2),
        Hutchinson(3 * D, "orthogonal", groups=3), Hutchinson(8, "hadamard", groups=1),
        Hutchinson(16, "hadamard", groups=2),
    ],
    ids=repr,
)  # fmt: skip
def test_directions_that_span_the_space_are_exact(divergence):
    found = traces(divergence, matrix(), n=3)
    torch.testing.assert_close(found, matrix().trace().expand_as(found))


@pytest.mark.parametrize("counts", [None, (1, 3), (5, 1, 2)])
def test_hadamard_rows_go_on_from_one_evaluation_to_the_next(counts):
    """As many directions as rows are exact, however they are shared among evaluations, if these weigh as many."""
    one = Hutchinson(1, "hadamard", fresh=True, counts=counts)
    weights = [one.products(D)] * 8 if counts is None else [*counts, *[1] * (8 - sum(counts))]
    found = sum(w * traces(one, matrix(), 3, [k]) for k, w in enumerate(weights)) / 8
    torch.testing.assert_close(found, matrix().trace().expand_as(found))
    assert (traces(one, matrix(), 3, range(3)) - matrix().trace()).abs().max() > 0.1


def test_what_xtrace_leaves_over_counts_for_all_dimensions_left():
    size, m = 9, 4
    w = Noise(0).normal("w", 0, (3, size, m), dtype=torch.float64)
    q, r = torch.linalg.qr(w)  # of A = I
    torch.testing.assert_close(_leave_one_out(w, w, q, q, r), torch.full((3, m), float(size), dtype=torch.float64))


def test_xtrace_is_exact_where_few_eigenvalues_differ_from_zero():
    """Without a multiple of the identity: the direction that tells it is in the kernel of J."""
    u, x = Noise(1).normal("low rank", 0, (20, 2), dtype=torch.float64), torch.zeros(5, 20, dtype=torch.float64)
    u[-1] = 0

    def normal(count, step):
        drawn = Noise(0, range(5)).normal("v", step, (5, count, 20), dtype=torch.float64).transpose(0, 1).clone()
        drawn[3] = torch.eye(20)[-1]
        return drawn

    found = XTrace(3).of(lambda x: x @ (u @ u.T), x, normal, 0)[1]
    torch.testing.assert_close(found, u.square().sum().expand_as(found), rtol=1e-6, atol=0)


def test_fixed_directions_stay_and_fresh_ones_do_not():
    for kind in KINDS:
        for divergence in (Hutchinson(2, kind, fresh) for fresh in (False, True)):
            same = torch.equal(traces(divergence, matrix(), 3, [0]), traces(divergence, matrix(), 3, [1]))
            assert same != divergence.fresh


def mixture():
    axes, means = Noise(3).normal("axes", 0, (2, D, D), dtype=torch.float64), Noise(4).normal("means", 0, (2, D))
    return GaussianMixture([0.4, 0.6], means, 0.1 * axes @ axes.mT)


@pytest.mark.parametrize("divergence", ESTIMATES, ids=repr)
def test_a_density_is_that_of_its_seed_whatever_the_batch(divergence):
    model, x = ExactModel(mixture(), sde("vp")), mixture().sample(7)
    rule = Likelihood(solver("velocity_2"), grid("lambda"), divergence, steps=5)
    whole = rule(model, x, seed=5)
    parts = rule(model, x[2:], seed=5, rows=range(2, 7), batch_size=2)
    torch.testing.assert_close(whole.nats[2:], parts.nats, rtol=0, atol=1e-11)
    assert not torch.allclose(whole.nats, rule(model, x, seed=6).nats)


@pytest.mark.parametrize("divergence", [Hutchinson(4), Hutchinson(4, "hadamard", fresh=True)], ids=repr)
def test_intervals_cover_the_truth_at_every_point(divergence):
    model, n, points = ExactModel(mixture(), sde("vp")), 400, 4
    x = mixture().sample(points).repeat(n, 1)
    found, exact = (
        Likelihood(solver("velocity_2"), grid("lambda"), kind, steps=12)(model, items, batch_size=2000)
        for kind, items in ((divergence, x), (ExactTrace(), x[:points]))
    )
    inside = (found.nats.reshape(n, -1) - exact.nats).abs() <= found.half.reshape(n, -1)
    assert float(inside.double().mean()) == pytest.approx(0.95, abs=0.03)  # in 6-D the estimates are not quite normal
    assert inside.double().mean(0).min() > 0.9


def test_shared_directions_are_as_many_and_lie_where_the_field_is_not_linear():
    model, x = ExactModel(mixture(), sde("vp")), mixture().sample(300)
    kinds = Hutchinson(8, "hadamard", True, 2), ExactTrace()
    even, exact = (Likelihood(solver("velocity_2"), grid("lambda"), kind, steps=20) for kind in kinds)
    shared, truth = allocated(even, model, x[:20]), exact(model, x[20:]).nats
    found = [rule(model, x[20:], seed=1) for rule in (even, shared)]
    assert found[1].products == pytest.approx(found[0].products)
    squares = [float((one.nats - truth).square().mean()) for one in found]
    assert squares[1] < 0.5 * squares[0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Hutchinson(0), "probes: 0"), (lambda: Hutchinson(directions="sobol"), "directions.*sobol"),
        (lambda: Hutchinson(4, groups=3), "groups: 3.*4 probes"), (lambda: Hutchinson(2, counts=(1, 2)), "fresh=true"),
        (lambda: Hutchinson(2, fresh=True, counts=(0,)), "counts.*0"), (lambda: XTrace(1), "probes: 1.*at least 2"),
        (lambda: traces(Hutchinson(7, "orthogonal", groups=1), matrix()), "probes: 7.*6 values"),
        (lambda: traces(Hutchinson(1, "orthogonal", True, counts=(7,)), matrix()), "probes: 7.*6 values"),
        (lambda: Likelihood(solver("auto"), divergence=Hutchinson(2, fresh=True)), "fresh"),
        (lambda: Likelihood(solver("adaptive_dopri5"), divergence=XTrace(2, fresh=True)), "fresh"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()
