"""The binomial chain: its exact reverse, its bound, its evidence, and what it refuses."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support import exact_model, gaussian, sde_named
from torch import nn

from scoresde import InputError, Sampler, load, train
from scoresde.chains import BinomialChain, BitEvidence, ExactBits
from scoresde.chains.binomial import flips, prior_divergence, step_divergence
from scoresde.cli.main import main
from scoresde.data import Array, Digits, Heartbeat
from scoresde.loss import BinomialBound
from scoresde.nets import UNet
from scoresde.sampling import BitFlips, Langevin

DOUBLE = torch.float64
STATES = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)), dtype=DOUBLE)
SHARES = torch.tensor([0.1, 0.6, 0.93, 0.5], dtype=DOUBLE)  # of ones
MASSES = torch.where(STATES > 0, SHARES, 1 - SHARES).prod(1)
BEATS = STATES[[5, 10]]  # 0101 and 1010
BITS = np.eye(4) > 0


def independent(sde="rectified"):
    return ExactBits(STATES, sde_named(sde), MASSES)


def noised(masses, alpha):
    """P(x_t) of all states."""
    return masses @ ((1 + alpha * STATES[:, None] * STATES) / 2).prod(2)


def reverse(model, masses, times):
    """P(x) of all states after the reverse steps, from P at times[0]."""
    for t, agree, differ in BitFlips().plan(model.sde, times):
        flip = model(STATES, t).flip(agree, differ)
        masses = masses @ torch.where(STATES[:, None] == STATES, 1 - flip[:, None], flip[:, None]).prod(2)
    return masses


def bound(model, masses, n):
    """The variational bound in nats, over all x_0 and x_t."""
    x0, x = STATES.repeat_interleave(16, 0), STATES.repeat(16, 1)
    total = (masses * prior_divergence(model, STATES)).sum()
    for k in range(1, n + 1):
        t, s = model.sde.T * k / n, model.sde.T * (k - 1) / n
        p = masses.repeat_interleave(16) * ((1 + float(model.sde.alpha(t)) * x0 * x) / 2).prod(1)
        total += (p * step_divergence(model, x0, x, t, s, None)).sum()
    return float(total)


@pytest.mark.parametrize("sde", ["rectified", "vp"])
@pytest.mark.parametrize("steps", [2, 7, 40])
def test_the_reverse_of_independent_bits_is_exact_between_any_levels(sde, steps):
    model = independent(sde)
    times = model.sde.T * torch.linspace(1, 0, steps + 1, dtype=DOUBLE) ** 1.5
    alpha = model.sde.alpha(times)
    for last in (steps // 2, steps):
        found = reverse(model, noised(MASSES, alpha[0]), times[: last + 1])
        assert (found - noised(MASSES, alpha[last])).abs().max() < 1e-10


@pytest.mark.parametrize("sde", ["rectified", "vp"])
def test_the_bound_of_independent_bits_is_their_entropy(sde):
    model = independent(sde)
    assert bound(model, MASSES, 12) == pytest.approx(model.entropy, abs=1e-6)
    assert model.entropy == pytest.approx(torch.distributions.Bernoulli(SHARES).entropy().sum().item(), abs=1e-12)


def test_the_bound_of_dependent_bits_comes_down_to_their_entropy_as_one_over_n():
    model = ExactBits(BEATS, sde_named("rectified"))
    masses = torch.zeros(16, dtype=DOUBLE)
    masses[[5, 10]] = 0.5
    gaps = [bound(model, masses, n) - math.log(2) for n in (40, 80, 160)]
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.1)
    assert gaps[1] / gaps[2] == pytest.approx(2, rel=0.05)


class Exact(nn.Module):
    """The network whose chain is exact for independent bits."""

    def __init__(self, predicts, sde, n):
        super().__init__()
        self.predicts, self.sde, self.n = predicts, sde, n

    def forward(self, x, c):
        alpha = 1 / (1 + torch.exp(4 * c.double()))  # = 1 - t on the rectified path
        if self.predicts == "clean":
            return torch.logit(SHARES) + x * (torch.log1p(alpha) - torch.log1p(-alpha))[:, None]
        t, s = 1 - alpha, (1 - alpha - self.sde.T / self.n).clamp(min=0)
        r = alpha / (1 - s)
        one = torch.logit(independent().forward(x.double(), t).flip(*flips(alpha, 1 - s)))
        return x * (torch.log((1 - r) / (1 + r))[:, None] - one)


@pytest.mark.parametrize("predicts", ["clean", "flip"])
def test_both_parametrisations_are_exact_with_the_exact_network(predicts):
    sde = sde_named("rectified")
    chain = BinomialChain(Exact(predicts, sde, 50), sde, predicts, 50)
    for t in (sde.T, 0.5, sde.T / 50):
        assert (chain(STATES, t).wrong - independent()(STATES, t).wrong).abs().max() < 1e-10
    items = torch.where(torch.rand(1000, 4, generator=torch.Generator().manual_seed(0)) < SHARES, 1.0, -1.0).double()
    found = BinomialBound().summary(chain, items, {}, 0)["bound"]
    entropy = -torch.log2(torch.where(items > 0, SHARES, 1 - SHARES)).sum(1).mean()  # of these items
    assert found["standard_error"] < 0.07
    assert found["bits"] == pytest.approx(float(entropy), abs=4 * found["standard_error"])


def test_the_loss_is_the_bound_on_average():
    sde, n, total = sde_named("rectified"), 12, 0.0
    chain = BinomialChain(Exact("clean", sde, n), sde, steps=n)
    x0, x = STATES.repeat_interleave(16, 0), STATES.repeat(16, 1)
    eps = 40 * x0 * x  # so that exactly these bits are redrawn
    for k in range(1, n + 1):
        p = MASSES.repeat_interleave(16) * ((1 + float(sde.alpha(sde.T * k / n)) * x0 * x) / 2).prod(1)
        total += (p * BinomialBound()(chain, x0, torch.full((256,), (k - 0.5) / n), eps).loss).sum() / n
    assert float(total) == pytest.approx(independent().entropy, abs=1e-5)  # whose prior is not fair coins


def test_samples_have_the_distribution_and_depend_on_seed_and_number_alone():
    model, sampler = ExactBits(BEATS, sde_named("rectified")), Sampler(steps=100)
    drawn = sampler.sample(model, n=2000, seed=1)
    beats = (drawn.x[:, None] == BEATS).all(2)
    assert drawn.nfe == 100
    assert beats.any(1).double().mean() > 0.95  # the rest lost what the bits have in common, see the bound
    assert beats[:, 0].double().mean() == pytest.approx(0.5, abs=0.05)
    part = sampler.sample(model, rows=range(700, 710), seed=1, batch_size=3)
    assert torch.equal(part.x, drawn.x[700:710])
    assert torch.equal(Sampler(BitFlips(), steps=100).sample(model, n=10, seed=1).x, drawn.x[:10])


def test_evidence_on_independent_bits_gives_the_exact_posterior():
    seen = torch.tensor([2.0, -1.0, 0.0, math.inf], dtype=DOUBLE)
    model = independent()
    times = model.sde.T * torch.linspace(1, 0, 9, dtype=DOUBLE)
    share = torch.sigmoid(torch.logit(SHARES) + seen)
    posterior = torch.where(STATES > 0, share, 1 - share).prod(1)
    start = noised(posterior, model.sde.alpha(times[0]))
    assert (reverse(BitEvidence(model, seen), start, times) - posterior).abs().max() < 1e-10
    each = BitEvidence(model, torch.tensor([[1.0], [-1.0]]) * torch.full((4,), math.inf))
    assert torch.equal(Sampler(steps=4).sample(each, n=5, seed=0).x, torch.tensor([[1.0], [-1.0]] * 3)[:5].expand(5, 4))


def test_the_prior_is_of_the_bits_at_the_last_level(monkeypatch):
    monkeypatch.setattr(ExactBits, "prior_mean", 2 * SHARES - 1)
    drawn = independent().prior(torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)))
    assert ((drawn.double() + 1).mean(0) / 2 - SHARES).abs().max() < 0.03


def test_guidance_of_bits_is_linear_in_their_log_odds():
    a, b = independent()(STATES, 0.5), ExactBits(BEATS, sde_named("rectified"))(STATES, 0.5)
    assert (a.toward(b, 0.0).wrong - a.wrong).abs().max() < 1e-12
    assert (a.toward(b, 1.0).wrong - b.wrong).abs().max() < 1e-12
    twice = torch.logit(a.toward(b, 2.0).wrong) - torch.logit(b.wrong)
    assert (twice - (torch.logit(b.wrong) - torch.logit(a.wrong))).abs().max() < 1e-9


def test_data_of_bits():
    beats = Heartbeat().load()
    patterns, counts = torch.cat([beats.items, beats.heldout]).unique(dim=0, return_counts=True)
    assert counts.tolist() == [500] * 5
    assert patterns.abs().unique().tolist() == [1.0]
    assert (patterns[:, :, 5:] == patterns[:, :, :-5]).all()
    assert Digits(threshold=8).load().items.unique().tolist() == [-1, 1]
    bits = np.random.default_rng(0).random((50, 3)) < 0.5
    data = Array(bits).load()
    assert data.items.unique().tolist() == [-1, 1]
    assert set(map(tuple, data.transform.finish(data.items).tolist())) <= set(map(tuple, bits.astype(int).tolist()))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bits") / "run"
    tiny = ["debug=tiny", "logger=none", "samplers.bit_flips.steps=4", "trainer.steps=4", "n=8", "model.net.width=8"]
    assert main(["train", "experiment=heartbeat", f"run={folder}", *tiny]) == 0
    return folder


def test_a_run_of_bits_is_sampled_by_its_own_solver(run, capsys):
    assert main(["sample", f"run={run}", "n=3", "sampler.steps=5", "sampler.path=true", f"out={run / 'out'}"]) == 0
    x = np.load(run / "out" / "samples.npz")["samples"]
    assert set(np.unique(x)) <= {0, 1}
    assert load(run).sample(2, steps=3).data.shape == (2, 1, 20)
    assert {"bits", "standard_error"} == load(run).summary["bound"].keys()


def test_the_benchmark_of_bits_runs(run, tmp_path, monkeypatch):
    net = UNet((1, 8, 8), channels=8, multipliers=(1,))
    chain = BinomialChain(net, sde_named("rectified"), steps=8)
    digits = train(
        Digits(threshold=8), model=chain, steps=1, batch_size=4, n=2, metrics={}, samplers={}, run=tmp_path / "d"
    )
    assert digits.config["loss"]["_target_"] == "scoresde.loss.BinomialBound"  # the default for this model
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import bits

    out = tmp_path / "bits.json"
    words = ["--seeds", "2", "-n", "6", "--steps", "2", "3", "--out", out, "--picture", tmp_path / "bits.png"]
    monkeypatch.setattr("sys.argv", ["bits.py", *map(str, (run, digits.path, *words))])
    bits.main()
    found = json.loads(out.read_text())["heartbeat"]
    assert found["exact"]["bits"] == pytest.approx(math.log2(5), abs=0.1)
    assert found["trained"]["bits"] > 20  # as few steps leave it
    assert (tmp_path / "bits.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sample solver=heun", "solver: Heun is for a Gaussian path, and this model is a chain of bits; use solver="),
        ("compare", "compare: works on a Gaussian path only"),
        ("tune", "tune: works on a Gaussian path only"),
        ("doctor", "run: doctor examines Gaussian paths"),
        ("convert to=diffusers out=x", "convert: works on a Gaussian path only"),
        ("train experiment=heartbeat data=digits", "data: "),
    ],
)
def test_says_in_one_line_what_does_not_suit_bits(words, said, run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, *rest = words.split()
    given = ["logger=none", "device=cpu"] if command == "train" else [f"run={run}"]
    assert main([command, *rest, *given]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ExactBits(torch.full((2, 3), 0.5), sde_named("vp")), r"data: 0\.5 in model units is no bit"),
        (
            lambda: BitEvidence(exact_model(sde_named("vp"), gaussian()), torch.zeros(2)),
            "model: 'ExactModel' .*chain of",
        ),
        (lambda: Sampler(BitFlips(), steps=1), "steps: 1 is not allowed; BitFlips needs an integer >= 2"),
        (lambda: Sampler(BitFlips(), corrector=Langevin()), "corrector: BitFlips"),
        (lambda: BinomialChain(nn.Identity(), sde_named("vp"), steps=1), "steps: 1 is not allowed; .*>= 2"),
        (lambda: BinomialChain(nn.Identity(), sde_named("ve")), "sde: VESDE is not allowed"),
        (lambda: Digits(threshold=17).load(), "threshold: 17 is not allowed; give a level from"),
        (
            lambda: train(BITS, model="bits", loss="edm"),
            "loss: DenoisingScoreMatching is for a Gaussian path.*=binomial",
        ),
        (lambda: train(BITS, model="mlp", loss="binomial"), "loss: BinomialBound is for a chain of bits.*use loss=edm"),
    ],
)
def test_says_so_in_python_too(make, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said) as error:
        make()
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
