"""Random numbers as a function: any part of the stream equals that part of the whole, and the law is right."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support import exact_model, mixture, sde_named

from scoresde import InputError, Sampler, compare, noise, train, tune
from scoresde.data import Moons
from scoresde.noise import Noise, chunks, derived_seed, parts, permutation, take

EVENTS = [(1,), (2,), (3,), (8,), (3, 5, 7)]


ROWS = st.builds(range, st.integers(0, 300), st.integers(301, 340), st.integers(1, 90))


@pytest.mark.parametrize("event", EVENTS)
@given(rows=ROWS)
def test_sample_k_is_the_same_in_every_batch(event, rows):
    whole = Noise(7).normal("solver", 3, (340, *event))
    part = Noise(7, rows).normal("solver", 3, (len(rows), *event))
    assert torch.equal(part, take(whole, rows))


@given(rows=ROWS)
def test_sample_k_is_the_same_in_every_batch_of_blocks(rows):
    """The generator of CUDA devices, run here on a CPU generator."""
    device = torch.device("cpu")
    whole = noise._normal_blocks(7, "solver", 3, range(340), 5, device)
    assert torch.equal(noise._normal_blocks(7, "solver", 3, rows, 5, device), take(whole, rows))


def test_a_block_is_what_the_generator_of_torch_draws_for_it():
    """64 samples share one, on whatever device; samples 128 ... 191 are block 2."""
    seed = noise._Key(7, "solver", 3, block=2).integer()
    block = torch.randn(64, 5, generator=torch.Generator().manual_seed(seed))
    drawn = noise._normal_blocks(7, "solver", 3, range(128, 192), 5, torch.device("cpu"))
    assert torch.equal(drawn, block)


def test_no_samples_need_no_numbers():
    none = Noise(0).normal("p", 0, (0, 3), dtype=torch.float64)
    assert (none.shape, none.dtype) == ((0, 3), torch.float64)
    assert Noise(0).uniform("p", 0, (0, 3)).shape == (0, 3)


@pytest.mark.parametrize("event", [(), (3,)])
@given(rows=ROWS)
def test_uniform_numbers_too(event, rows):
    whole = Noise(7).uniform("time", 3, (340, *event))
    assert torch.equal(Noise(7, rows).uniform("time", 3, (len(rows), *event)), take(whole, rows))


@given(rows=ROWS, count=st.integers(1, 50))
def test_parts_and_chunks_cut_a_batch_completely(rows, count):
    interleaved = parts(rows, count)
    assert len(interleaved) == count
    assert sorted(k for part in interleaved for k in part) == list(rows)
    x = torch.arange(len(rows))
    for k, part in enumerate(parts(range(len(rows)), count)):
        assert (take(x, part) % count == k).all()
    pieces = chunks(rows, count)
    assert [k for piece in pieces for k in piece] == list(rows)
    assert all(len(piece) == count for piece in pieces[:-1])


def test_numbers_never_change():
    """Runs and samples of earlier versions depend on these values."""
    z = Noise(7).normal("solver", 3, (2, 3), dtype=torch.float64)
    expected = [[1.9412651, 0.79458499, -0.78387529], [-0.5395512, -0.083749294, -0.49290401]]
    torch.testing.assert_close(z, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)
    u = Noise(7).uniform("time", 3, 3)
    assert u.tolist() == pytest.approx([0.48107088, 0.0047364661, 0.79293444], abs=1e-7)
    z = Noise(7, range(500, 503, 2)).normal("solver 1", 3, (2, 3), dtype=torch.float64)
    expected = [[0.59256589, 2.4437685, -0.3899444], [1.8092285, 1.8653439, -0.076323777]]
    torch.testing.assert_close(z, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)
    u = Noise(-1).uniform("time", 3, (2, 2)).flatten()
    assert u.tolist() == pytest.approx([0.319338707, 0.144135087, 0.590013738, 0.273095057], abs=1e-7)
    assert permutation(7, "data", 3, 8).tolist() == [3, 5, 4, 7, 0, 1, 6, 2]
    assert derived_seed(7, "dropout", 3) == 5433650687338807470
    assert noise._Key(7, "solver", 3, block=2).integer() == 7043547016575388569  # of samples 128 ... 191 on CUDA


@pytest.mark.parametrize("seed", [None, 1.5, 1.0, "1", True, [1], np.float64(1), torch.Generator()])
@pytest.mark.parametrize(
    "use",
    [
        Noise,
        lambda seed: permutation(seed, "p", 0, 5),
        lambda seed: derived_seed(seed, "p", 0),
        lambda seed: mixture().sample(3, seed),
        lambda seed: Sampler(steps=2).sample(exact_model(sde_named("vp")), n=2, seed=seed),
        lambda seed: train(torch.randn(50, 2), steps=1, seed=seed),
        lambda seed: tune(exact_model(sde_named("vp")), steps=3, seed=seed),
        lambda seed: compare(exact_model(sde_named("vp")), mixture(), solvers=["ddim"], budgets=[2], seed=seed),
        lambda seed: Moons(seed=seed),
    ],
)
def test_a_seed_is_an_integer(use, seed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^seed: .* give an integer"):
        use(seed)
    assert not list(tmp_path.iterdir())


def test_integers_of_numpy_are_the_same_seeds():
    assert torch.equal(Noise(np.int64(7)).normal("p", 0, (3, 2)), Noise(7).normal("p", 0, (3, 2)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Noise(0, 5), "rows: 5"),
        (lambda: Noise(0, range(9, 0, -1)), "rows: range"),
        (lambda: Noise(0, range(-3, 4)), "rows: range"),
        (lambda: Noise(0, range(5, 9)).normal("p", 0, (3, 2)), "rows: range.*3"),
    ],
)
def test_wrong_rows_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_dtype_changes_rounding_only():
    z32, z64 = Noise(0).normal("p", 0, (100, 3)), Noise(0).normal("p", 0, (100, 3), dtype=torch.float64)
    assert torch.equal(z64.float(), z32)
    assert z64.dtype == torch.float64


@pytest.mark.parametrize("draw", ["cpu", "blocks"])
def test_the_law_is_standard_normal(draw):
    if draw == "cpu":
        z = Noise(1).normal("p", 0, (50_000, 3))
    else:
        z = noise._normal_blocks(1, "p", 0, range(50_000), 3, torch.device("cpu"))
    for column in z.T:
        assert stats.kstest(column.numpy(), "norm").pvalue > 1e-3
    # tails: the number beyond 3.5 standard deviations is Poisson with the expected mean
    expected = 2 * stats.norm.sf(3.5) * z.numel()
    assert stats.poisson.sf(int((z.abs() > 3.5).sum()) - 1, expected) > 1e-3
    assert stats.poisson.cdf(int((z.abs() > 3.5).sum()), expected) > 1e-3
    correlation = np.corrcoef(z.T.numpy()) - np.eye(3)
    assert np.abs(correlation).max() < 4 / 50_000**0.5


def test_no_word_of_the_generator_makes_an_infinite_number():
    """The extreme words, and all that float32 could round to them; the largest number is sqrt(2 log 2^33) = 6.76."""
    low = np.array([0, 1, 63, 64, 127, 128, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 129, 2**32 - 1], dtype=np.uint64)
    words = (low[:, None] | low[None, :] << np.uint64(32)).reshape(-1, 1)
    z = noise._box_muller(words)
    assert torch.isfinite(z).all()
    assert float(z.abs().max()) == pytest.approx((2 * np.log(2.0**33)) ** 0.5, rel=1e-6)


def test_tails_of_many_numbers():
    """Beyond five standard deviations there is the expected number of 5.7e-7 of all."""
    z = Noise(3).normal("p", 0, (20_000_000, 1))
    assert 2 <= int((z.abs() > 5).sum()) <= 26
    assert z.abs().max() < 6.5


def test_uniform_law():
    u = Noise(1).uniform("p", 0, 50_000)
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3
    assert 0 <= float(u.min()) < float(u.max()) < 1


@pytest.mark.parametrize(
    "other",
    [Noise(1).normal("q", 0, (9999, 1)), Noise(1).normal("p", 1, (9999, 1)), Noise(2).normal("p", 0, (9999, 1))],
)
def test_other_seed_purpose_or_step_is_independent(other):
    z = Noise(1).normal("p", 0, (9999, 1))
    assert abs(float((z * other).mean())) < 4 / 9999**0.5


def test_no_global_generator_is_touched():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global generator is the subject
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    Noise(1).normal("p", 0, (10, 3))
    Noise(1).uniform("p", 0, 10)
    permutation(1, "p", 0, 10)
    noise._normal_blocks(1, "p", 0, range(10), 3, torch.device("cpu"))
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_permutations():
    p = permutation(0, "data", 0, 1000)
    assert torch.equal(p.sort().values, torch.arange(1000))
    assert torch.equal(p, permutation(0, "data", 0, 1000))
    assert (p == permutation(0, "data", 1, 1000)).sum() < 10


def test_derived_seeds_fit_every_generator_and_differ():
    seeds = {derived_seed(0, "dropout", step) for step in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= s < 2**63 for s in seeds)
