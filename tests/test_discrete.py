"""Chains of numbered levels: the paths through them, their grids, and the steps of DDPM and improved DDPM."""

import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import scoresde
from scoresde import (
    VPSDE,
    Ancestral,
    DenoisingScoreMatching,
    Discrete,
    DiscreteVPSDE,
    InputError,
    LabelledModel,
    LevelsVPSDE,
    Sampler,
)
from scoresde.build import build
from scoresde.described import describe
from scoresde.noise import Noise
from scoresde.runs.upgrade import upgraded

CHAIN = DiscreteVPSDE(levels=40, first=2e-3, last=0.3)


@pytest.mark.parametrize("cls", [DiscreteVPSDE, LevelsVPSDE, LabelledModel])
def test_configurations_of_before_name_the_same_classes(cls):
    stored = {"levels": 40} if cls is DiscreteVPSDE else {"alphas": [0.9, 0.5, 0.1]}
    runtime = {}
    if cls is LabelledModel:
        stored, runtime = {"label_scale": 39.0}, {"net": torch.nn.Identity(), "sde": CHAIN}
    found = build(upgraded({"part": {"_target_": f"scoresde.convert.{cls.__name__}", **stored}})["part"], **runtime)
    assert type(found) is cls
    assert scoresde.describe(found)["_target_"] == f"scoresde.{cls.__name__}"


def test_a_path_through_levels_has_the_slopes_of_its_alpha_and_sigma():
    t = torch.linspace(1e-8, 1, 203, dtype=torch.float64)
    h = 1e-6
    before, after = (t - h).clamp(0), (t + h).clamp(max=1)
    alpha, sigma = ((f(after) - f(before)) / (after - before) for f in (CHAIN.alpha, CHAIN.sigma))
    torch.testing.assert_close(torch.stack(CHAIN.slopes(t)), torch.stack((alpha, sigma)), rtol=2e-4, atol=1e-6)
    torch.testing.assert_close(CHAIN.t_of_lam(CHAIN.lam(t)), t)
    torch.testing.assert_close(CHAIN.alpha(t) ** 2 + CHAIN.sigma(t) ** 2, torch.ones_like(t))


class Net(torch.nn.Module):
    """Some function of x and the label, with twice the channels if variances are learned."""

    def __init__(self, halves: int = 1) -> None:
        super().__init__()
        self.halves, self.labels = halves, set()

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        self.labels.add(round(float(c[0]), 6))
        shift = (0.01 * c).sin().reshape(-1, *(1,) * (x.ndim - 1))
        return torch.cat([torch.tanh((2 + k) * x + shift) for k in range(self.halves)], 1)


class _Double:
    """torch, whose float32 is float64: what their tables are made of."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def theirs(monkeypatch, schedule: str, steps: int, spacing: str, variance: str, clip: bool, net: Net, x: Tensor):
    """All states of a DDPM sampler of diffusers in double precision, with the noise of seed 0."""
    module = pytest.importorskip("diffusers.schedulers.scheduling_ddpm", reason="diffusers is in the extra dev")
    monkeypatch.setattr(module, "torch", _Double())
    name = {"cosine": "squaredcos_cap_v2"}.get(schedule, schedule)
    kept = {"clip_sample": clip, "clip_sample_range": 0.8, "timestep_spacing": spacing, "variance_type": variance}
    scheduler = module.DDPMScheduler(40, 0.002, 0.3, name, **kept)
    scheduler.set_timesteps(steps)
    assert scheduler.alphas_cumprod.dtype == torch.float64
    noise, states = Noise(0, range(len(x))), []
    for i, t in enumerate(scheduler.timesteps.tolist()):
        z = noise.normal("solver", i, x.shape, "cpu", torch.float64)
        monkeypatch.setattr(module, "randn_tensor", lambda *_, z=z, **__: z)
        x = scheduler.step(net(x, torch.full((len(x),), float(t), dtype=x.dtype)), t, x).prev_sample
        states.append(x)
    return states


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "cosine"])
@pytest.mark.parametrize(
    ("kind", "variance", "steps", "spacing", "clip"),
    [
        *product(("fixed_small",), ("lower",), (40, 8), ("leading",), (None,)),
        *product(("fixed_large",), ("upper",), (40, 8), ("leading",), (None, 0.8)),
        ("fixed_small", "lower", 7, "linspace", None),
        ("fixed_large", "upper", 8, "trailing", None),
        # with fewer steps they mix the beta-tilde of these with the beta of all
        ("learned_range", "learned", 40, "leading", None),
        ("learned_range", "learned", 40, "leading", 0.8),
    ],
)
def test_steps_are_those_of_diffusers(kind, variance, steps, spacing, clip, schedule, monkeypatch):
    net, given = Net(1 + (variance == "learned")), "range" if variance == "learned" else "fixed"
    model = LabelledModel(net, DiscreteVPSDE(schedule, 40, 0.002, 0.3), variance=given, label_scale=39.0)
    sampler = Sampler(Ancestral(1.0, variance, clip), Discrete(spacing), steps)
    x = torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = [state for _, state in sampler.path(model, x, Noise(0, range(3)))][1:]
    asked, net.labels = net.labels, set()
    expected = theirs(monkeypatch, schedule, steps, spacing, kind, clip is not None, net, x)
    assert asked == net.labels <= set(range(40))
    if (spacing, kind) == ("trailing", "fixed_large"):  # they add noise in the last step, unless it begins at level 0
        del ours[-1], expected[-1]
    if clip:  # they clip the last step too, which is the x0 of the sampler
        ours[-1] = ours[-1].clamp(-clip, clip)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("raw", "variance"), [(-1.0, "lower"), (1.0, "upper")])
def test_learned_variances_of_respaced_steps_lie_between_their_own_ends(raw, variance):
    class Fixed(Net):
        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            return torch.cat((super().forward(x, c), torch.full_like(x, raw)), 1)

    learned, fixed = LabelledModel(Fixed(), CHAIN, variance="range"), LabelledModel(Net(), CHAIN)
    ours, ends = (
        Sampler(Ancestral(variance=rule), Discrete("linspace"), 14).sample(model, (2,), 5, dtype=torch.float64).x
        for rule, model in (("learned", learned), (variance, fixed))
    )
    torch.testing.assert_close(ours, ends, rtol=1e-12, atol=1e-12)
    with pytest.raises(InputError, match=r"variance: 'learned' .*learned none; give lower") as error:
        Sampler(Ancestral(variance="learned"), steps=5).sample(fixed, (2,), 5)
    assert "\n" not in str(error.value)


def test_chains_approach_the_reverse_sde_with_order_1_in_the_number_of_levels(monkeypatch):
    """The law of each chain on Gaussian data, exactly; the SDE's is that of its linear equation."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import chain_limit

    for name, error in chain_limit.CHAINS.items():
        coarse, fine = error(100), error(300)
        assert math.log(coarse / fine, 3) == pytest.approx(1, abs=0.1), name
        assert fine < 0.05


def test_the_grid_takes_the_levels_of_the_chain_and_no_others():
    times = Discrete("linspace")(CHAIN, 14)
    assert torch.equal((39 * times).round(), torch.arange(39.0, -1, -3, dtype=torch.float64))
    assert Discrete(levels=40)(CHAIN, 3, 30 / 39, 10 / 39).tolist() == [30 / 39, 20 / 39, 10 / 39]
    for levels in (39, 1000):
        with pytest.raises(InputError, match=f"levels: {levels} .*the path has 40"):
            Discrete(levels=levels)(CHAIN, 4)
    with pytest.raises(InputError, match=r"start: 0\.5 .*40 levels"):
        Discrete()(CHAIN, 3, 0.5)
    with pytest.raises(InputError, match=r"levels: 40 are fewer than the 41"):
        Discrete()(CHAIN, 41)


def test_labels_are_the_numbers_of_the_levels_however_many_there_are():
    for sde in (CHAIN, DiscreteVPSDE("cosine", 7)):
        net = Net()
        model = LabelledModel(net, sde, label_scale=None)
        for k in range(sde.levels):
            model(torch.zeros(1, 2), k / (sde.levels - 1))
        assert net.labels == set(range(sde.levels))
        assert describe(model)["label_scale"] == sde.levels - 1
    with pytest.raises(InputError, match=r"label_scale: None .*no levels; give a number"):
        LabelledModel(Net(), VPSDE(), label_scale=None)


def test_a_training_sees_each_level_of_the_chain_alike():
    net = Net()
    model, loss = LabelledModel(net, CHAIN, label_scale=39.0), DenoisingScoreMatching(times="levels")
    u = torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1]
    t = loss.sample_times(CHAIN, u)
    assert torch.equal(torch.bincount((39 * t).round().long()), torch.full((40,), 100))
    for k in range(40):
        loss(model, torch.zeros(1, 2), u[100 * k : 100 * k + 1], torch.ones(1, 2))
    assert net.labels == set(range(40))
    with pytest.raises(InputError, match=r"times: 'levels' .*sde=discrete"):
        loss.sample_times(VPSDE(), u)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DiscreteVPSDE(levels=1), "levels: 1 .*>= 3"),
        (lambda: LevelsVPSDE((0.5,)), r"alphas: .*>= 3 levels"),
        (lambda: Ancestral(0.5, "upper"), "variance: 'upper' .*eta=1"),
        (lambda: Ancestral(1.0, "upper").with_eta(0.0), "variance: 'upper' .*variance=lower"),
        (lambda: Ancestral(1.0, "middle"), "variance: 'middle'"),
    ],
)
def test_what_is_no_chain_is_refused_in_one_line(make, says):
    with pytest.raises(InputError, match=says) as error:
        make()
    assert "\n" not in str(error.value)
