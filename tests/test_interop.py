"""Models of other libraries: each pair says what the exact model says, and the samplers of both sides run on it."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import exact_model, mixture, sde_named
from torch import Tensor, nn

import scoresde
from scoresde import (
    EDMSDE,
    SDE,
    VPSDE,
    DiscreteVPSDE,
    ExactModel,
    InputError,
    LevelsVPSDE,
    Model,
    RectifiedSDE,
    Sampler,
    unwrap,
    wrap,
)
from scoresde.noise import Noise
from scoresde.sampling import DDIM, Heun
from scoresde.tuning import tune

DATA = mixture()
ALPHAS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def column(c: Tensor) -> Tensor:
    return c[:, None]


class Output:
    """What diffusers' networks return."""

    def __init__(self, sample: Tensor) -> None:
        self.sample = sample


class Posterior:
    """What azula's denoisers return."""

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean


class Azula(nn.Module):
    """An azula denoiser's calling convention: denoiser(x, t) has a mean, denoiser.schedule(t) is (alpha, sigma)."""

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha = torch.exp(math.log(1e-3) * t**2)
        return alpha, torch.sqrt(1 - alpha**2 + 1e-6)

    def forward(self, x: Tensor, t: Tensor, **kwargs: Any) -> Posterior:
        alpha, sigma = self.schedule(t.double())
        return Posterior(DATA.posterior_mean(x, alpha, sigma).to(x))


def denoiser(x: Tensor, sigma: Tensor, **kwargs: Any) -> Tensor:
    return DATA.posterior_mean(x, torch.ones_like(sigma), sigma).to(x)


def of(sde: SDE, name: str, scale: float = 1.0) -> Callable[..., Tensor]:
    """A function of (x, scale t) with one quantity of the exact model, written without a prediction."""

    def function(x: Tensor, time: Tensor, **kwargs: Any) -> Tensor:
        t = time.double() / scale
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        x0 = DATA.posterior_mean(x, alpha, sigma)
        eps = (x - column(alpha) * x0) / column(sigma)
        dalpha, dsigma = sde.slopes(t)
        found = {
            "x0": x0,
            "eps": eps,
            "score": -eps / column(sigma),
            "v": column(alpha) * eps - column(sigma) * x0,
            "velocity": column(dalpha) * x0 + column(dsigma) * eps,
        }
        return found[name].to(x)

    return function


def unet(x: Tensor, number: Tensor, **kwargs: Any) -> Output:
    """An eps network with numbered times: k of 0 ... 999."""
    return Output(of(LevelsVPSDE(tuple(ALPHAS.tolist())), "eps", 999.0)(x, number))


def flow(x: Tensor, t: Tensor) -> Tensor:
    """A flow-matching velocity with data at t = 1, written from its definition."""
    alpha, sigma = t.double(), 1 - t.double()
    x0 = DATA.posterior_mean(x, alpha, sigma)
    return (x0 - (x - column(alpha) * x0) / column(sigma)).to(x)


VP = VPSDE()
FOREIGN: dict[str, Callable[[], Model]] = {
    "denoiser": lambda: wrap(denoiser, "denoiser"),
    "denoiser on vp": lambda: wrap(denoiser, "denoiser", VP),
    "score": lambda: wrap(of(VP, "score"), "score", VP),
    "score on subvp": lambda: wrap(of(sde_named("subvp"), "score", 999.0), "score", sde_named("subvp"), time_scale=999),
    "eps": lambda: wrap(of(VP, "eps"), "eps", VP),
    "v": lambda: wrap(of(sde_named("cosine"), "v"), "v", sde_named("cosine")),
    "x0": lambda: wrap(of(sde_named("ve"), "x0"), "x0", sde_named("ve")),
    "numbered eps": lambda: wrap(unet, "eps", levels=ALPHAS),
    "numbered v": lambda: wrap(of(DiscreteVPSDE(), "v", 999.0), "v", DiscreteVPSDE()),
    "flow to noise": lambda: wrap(of(RectifiedSDE(), "velocity", 1000.0), "velocity", data_at=0, time_scale=1000),
    "flow to data": lambda: wrap(flow, "velocity", data_at=1),
    "velocity on vp": lambda: wrap(of(VP, "velocity"), "velocity", VP, data_at=0),
    "azula": lambda: wrap(Azula(), "azula"),
}


def exact(sde: SDE) -> ExactModel:
    return ExactModel(DATA, sde)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_wrapped_model_is_the_exact_model(name: str) -> None:
    model = FOREIGN[name]()
    for sde in (model.sde, VP, RectifiedSDE(), EDMSDE()):
        here = model.under(sde)  # type: ignore[operator]
        for t in (float(sde.t_of_lam(torch.tensor(0.3))), sde.t_of_lam(torch.linspace(-3, 3, 6, dtype=torch.float64))):
            said, true = here(draw(6, 2), t), exact(sde)(draw(6, 2), t)
            torch.testing.assert_close(said.x0, true.x0, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(said.eps, true.eps, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FOREIGN)
def test_our_samplers_run_on_a_wrapped_model(name: str) -> None:
    model = FOREIGN[name]()
    for solver in (Heun(), DDIM()):
        sampler = Sampler(solver, steps=8)
        found = sampler.sample(model, (2,), 6, dtype=torch.float64)
        true = sampler.sample(exact(model.sde), (2,), 6, dtype=torch.float64)
        torch.testing.assert_close(found.x, true.x, rtol=1e-5, atol=1e-5)
        assert found.nfe == true.nfe


def test_in_single_precision_too() -> None:
    for name in FOREIGN:
        model = FOREIGN[name]()
        t = float(model.sde.t_of_lam(torch.tensor(0.3)))
        x = draw(6, 2).float()
        torch.testing.assert_close(model(x, t).x0, exact(model.sde)(x, t).x0, rtol=1e-5, atol=1e-5)


def test_shares_of_a_flow_are_those_of_its_data() -> None:
    """Taken for v, the same network gives shares of 0.10 for 0.30."""
    x = Sampler(Heun(), steps=30).sample(wrap(flow, "velocity", data_at=1), (2,), 4000).x.double()
    nearest = torch.cdist(x, DATA.means).argmin(1)
    shares = torch.bincount(nearest, minlength=3) / len(x)
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.5, 0.3]), rtol=0, atol=0.03)


def test_a_foreign_model_is_compared_and_tuned() -> None:
    model = wrap(denoiser, "denoiser", event_shape=(2,))
    assert tune(model, (2,), 4, n=16, iterations=2, fine=10).times.shape == (4,)
    result = scoresde.compare(model, DATA, solvers=["heun", "ddim"], budgets=[8], n=32, seeds=2)
    assert {row.error for row in result.rows} == {None}


def test_a_wrapped_network_keeps_its_mode_weights_and_device() -> None:
    net = nn.Linear(2, 2).double()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.net(x) * t[:, None]

    model = wrap(Net(), "eps", VP)
    assert [p is q for p, q in zip(model.parameters(), net.parameters(), strict=True)] == [True, True]
    model.eval()
    assert not net.training
    assert model(draw(3, 2).float(), 0.5).eps.dtype == torch.float32
    for again in (copy.deepcopy(wrap(Azula(), "azula")), pickle.loads(pickle.dumps(wrap(Azula(), "azula")))):
        torch.testing.assert_close(again(draw(3, 2), 0.4).x0, FOREIGN["azula"]()(draw(3, 2), 0.4).x0)
    on_meta = wrap(denoiser, "denoiser", device="meta")
    assert on_meta.device.type == "meta"


def test_conditions_reach_the_function() -> None:
    seen: list[Any] = []

    def net(x: Tensor, t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.append((args, kwargs))
        return x

    model, label = wrap(net, "eps", VP), torch.tensor([1, 2, 3])
    model(draw(3, 2), 0.5)
    model(draw(3, 2), 0.5, label)
    scoresde.Conditioned(model, {"class_labels": label})(draw(3, 2), 0.5)
    assert [len(args) for args, _ in seen] == [0, 1, 0]
    assert seen[1][0][0] is label
    assert torch.equal(seen[2][1]["class_labels"], label)


# ---- ours as theirs ----


@pytest.mark.parametrize("sde", ["vp", "ve", "edm", "cosine", "rectified"])
def test_an_unwrapped_model_is_the_exact_function(sde: str) -> None:
    model, x = exact_model(sde_named(sde), DATA), draw(6, 2)
    ratios, times = torch.logspace(-1.5, 1, 6, dtype=torch.float64), torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    numbers = torch.tensor([10, 100, 300, 500, 700, 900])
    close = {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(unwrap(model, "denoiser")(x, ratios), denoiser(x, ratios), **close)
    torch.testing.assert_close(unwrap(model, "velocity", data_at=1)(x, times), flow(x, times), **close)
    torch.testing.assert_close(unwrap(model, "eps", levels=ALPHAS)(x, numbers), unet(x, numbers).sample, **close)
    for name in ("x0", "eps", "v", "score", "velocity"):
        here = {"data_at": 0} if name == "velocity" else {}
        function = unwrap(model, name, VP, time_scale=999, **here)  # type: ignore[arg-type]
        torch.testing.assert_close(function(x, 999 * times), of(VP, name, 999)(x, 999 * times), **close)
    for level in (0.5, torch.tensor(0.5), torch.full((6,), 0.5)):
        torch.testing.assert_close(
            unwrap(model, "denoiser")(x, level), denoiser(x, torch.full((6,), 0.5, dtype=torch.float64)), **close
        )


@pytest.mark.parametrize("kind", ["denoiser", "x0", "eps", "v", "score"])
@pytest.mark.parametrize("sde", ["vp", "edm", "rectified"])
def test_in_and_out_again_is_the_model(kind: str, sde: str) -> None:
    model, path = exact_model(sde_named(sde), DATA), sde_named(sde)
    again = wrap(unwrap(model, kind), kind, path)  # type: ignore[arg-type]
    t = float(path.t_of_lam(torch.tensor(0.3)))
    torch.testing.assert_close(again(draw(5, 2), t).eps, model(draw(5, 2), t).eps, rtol=1e-6, atol=1e-6)


def ends(n: int = 400, seed: int = 1) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_heun_sampler_of_k_diffusion_runs_on_ours() -> None:
    """Its loop, with its Karras grid; the same steps of ours end at the same points."""
    model = exact_model(VP, DATA)
    function, rho, steps = unwrap(model, "denoiser"), 7.0, 20
    sigmas = torch.linspace(80 ** (1 / rho), 0.01 ** (1 / rho), steps, dtype=torch.float64) ** rho
    x = start = ends() * 80
    for a, b in zip([*sigmas], [*sigmas[1:], torch.tensor(0.0)], strict=True):
        d = (x - function(x, a.expand(len(x)))) / a
        if b == 0:
            x = x + d * (b - a)
        else:
            middle = x + d * (b - a)
            x = x + (d + (middle - function(middle, b.expand(len(x)))) / b) / 2 * (b - a)
    true = exact(EDMSDE())
    *_, (_, y) = Heun().integrate(true, sigmas, start, Noise(0))
    torch.testing.assert_close(x, true(y, 0.01).x0, rtol=1e-6, atol=1e-6)


def test_an_euler_sampler_of_flow_matching_runs_on_ours() -> None:
    function, steps = unwrap(exact_model(VP, DATA), "velocity", data_at=1), 200
    x = ends(2000)
    with torch.no_grad():
        for k in range(steps):
            x = x + function(x, torch.full((len(x),), k / steps)) / steps
    shares = torch.bincount(torch.cdist(x, DATA.means).argmin(1), minlength=3) / len(x)
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.5, 0.3]), rtol=0, atol=0.04)


def test_a_scheduler_of_diffusers_runs_on_ours() -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False)
    assert torch.allclose(scheduler.alphas_cumprod.double(), ALPHAS, rtol=1e-4)
    scheduler.set_timesteps(50)
    x, y = ends(), ends()
    function = unwrap(exact_model(RectifiedSDE(), DATA), "eps", levels=ALPHAS)
    for k in scheduler.timesteps:
        x = scheduler.step(function(x, k), k, x).prev_sample
        y = scheduler.step(unet(y, k.expand(len(y))).sample, k, y).prev_sample
    torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)
    assert float(torch.cdist(x, DATA.means).amin(1).max()) < 3


def test_azula_itself() -> None:
    azula = pytest.importorskip("azula.noise")
    denoise = pytest.importorskip("azula.denoise")

    class Exact(denoise.Denoiser):  # type: ignore[name-defined,misc]
        def __init__(self, schedule: Any) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t: Tensor, t: Tensor, **kwargs: Any) -> Any:
            return denoise.DiracPosterior(DATA.posterior_mean(x_t, *self.schedule(t.double())).to(x_t))

    for schedule in (azula.VPSchedule(), azula.VESchedule(), azula.CosineSchedule(), azula.RectifiedSchedule()):
        model = wrap(Exact(schedule), "azula")
        for t in (0.01, 0.4, 1.0):
            said, true = model(draw(5, 2), t), exact(model.sde)(draw(5, 2), t)
            torch.testing.assert_close(said.x0, true.x0, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: wrap(denoiser, "epsilon"), "kind: 'epsilon'"),
        (lambda: wrap(denoiser, "eps"), "give sde=, or levels="),
        (lambda: wrap(denoiser, "velocity"), "data_at: None .*dx/dt"),
        (lambda: wrap(denoiser, "score", VP, data_at=1), "data_at: 1"),
        (lambda: wrap(denoiser, "eps", VP, levels=ALPHAS), "levels: "),
        (lambda: wrap(denoiser, "velocity", levels=ALPHAS, data_at=1), "levels: "),
        (lambda: wrap(denoiser, "eps", levels=[0.9, 0.5, 0.0]), "levels: .* leave out"),
        (lambda: wrap(denoiser, "x0", levels=[0.9, 0.5, -0.1]), "alphas: .* last >= 0"),
        (lambda: wrap(denoiser, "eps", levels=[0.9, 0.5]), "alphas: .* 3 levels"),
        (lambda: wrap(denoiser, "azula"), "schedule"),
        (lambda: wrap(Azula(), "azula", VP), "sde: .*under"),
        (lambda: unwrap(exact(VP), "azula"), "kind: 'azula'"),
        (lambda: unwrap(exact(VP), "denoiser", VP), "sde: "),
        (lambda: wrap(lambda x, s: x[:, :1], "denoiser")(draw(3, 2), 0.5), r"\(3, 1\) for an input of shape \(3, 2\)"),
        (lambda: wrap(lambda x, s: {"x": x}, "denoiser")(draw(3, 2), 0.5), "returned dict"),
    ],
)
def test_what_does_not_belong_together_is_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()
