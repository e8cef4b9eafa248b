"""Samplers of other libraries as rows of a comparison: they do what their libraries do, on any path and shape."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from support import exact_model, gaussian, sde_named

from scoresde import VPSDE, ExactModel, InputError, Sampler, compare
from scoresde.comparison import Mixture, endpoints
from scoresde.comparison.peer_solver import PeerSolver, names, peer

diffusers = pytest.importorskip("diffusers", reason="diffusers is installed with the extra dev")
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]
STEPS = 9


def drawn(name, model, z):
    return Sampler(PeerSolver(name), steps=STEPS).sample(model, start=z * model.sde.prior_std).x


def pipeline(scheduler, network, z):
    """The loop of every pipeline of diffusers."""
    scheduler.set_timesteps(STEPS)
    x = z * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x


@pytest.mark.parametrize(
    ("name", "scheduler", "settings"),
    [
        ("dpmpp_2m", "DPMSolverMultistepScheduler", {}),
        ("dpmpp_3m", "DPMSolverMultistepScheduler", {"solver_order": 3}),
        ("dpmpp_2s", "DPMSolverSinglestepScheduler", {"lower_order_final": True}),
        ("unipc_3", "UniPCMultistepScheduler", {"solver_order": 3}),
        ("euler", "EulerDiscreteScheduler", {}),
        ("lms", "LMSDiscreteScheduler", {}),
    ],
)
def test_a_peer_on_vp_draws_what_a_pipeline_draws(name, scheduler, settings):
    scheduler = getattr(diffusers, scheduler)(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", **settings)
    model, z = exact_model(VPSDE()), torch.randn(20, 2, generator=torch.Generator().manual_seed(0))

    def network(x, t):
        """eps at numbered times."""
        signal = torch.from_numpy(_interpolated(scheduler.alphas_cumprod.double().numpy(), float(t)))
        alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
        return ((x - alpha * model.data.posterior_mean(x.double(), float(alpha), float(sigma))) / sigma).float()

    torch.testing.assert_close(drawn(name, model, z), pipeline(scheduler, network, z), rtol=0, atol=2e-3)


def _interpolated(signal, t):
    """alpha^2 at a time between two numbers: linear in the logarithm of sigma / alpha, as their schedulers have it."""
    r = np.exp(np.interp(t, np.arange(len(signal)), np.log(np.sqrt(1 / signal - 1))))
    return np.asarray(1 / (1 + r * r))


def test_a_peer_on_edm_draws_what_a_pipeline_draws():
    model, z = exact_model(sde_named("edm")), torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    ends = {"sigma_min": model.sde.t_min, "sigma_max": model.sde.T, "sigma_data": 1.0}
    scheduler = diffusers.EDMDPMSolverMultistepScheduler(**ends)

    def network(scaled, t):
        sigma = scheduler.sigmas[len(seen)].double()
        seen.append(t)
        x = scaled.double() * (sigma**2 + 1).sqrt()
        return (
            (model.data.posterior_mean(x, 1.0, float(sigma)) - x / (sigma**2 + 1)) * (sigma**2 + 1).sqrt() / sigma
        ).float()

    seen = []
    torch.testing.assert_close(drawn("dpmpp_2m_karras", model, z), pipeline(scheduler, network, z), rtol=0, atol=2e-3)


def test_a_peer_on_the_rectified_path_draws_what_a_pipeline_draws():
    model, z = exact_model(sde_named("rectified")), torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.init_noise_sigma, scheduler.scale_model_input = 1.0, lambda x, t: x

    def network(x, t):
        """The velocity noise - data; only noise is left at time 1000."""
        s = min(float(t) / 1000, 1 - 1e-6)
        x0 = model.data.posterior_mean(x.double(), 1 - s, s)
        return ((x - (1 - s) * x0) / s - x0).float()

    torch.testing.assert_close(drawn("euler", model, z), pipeline(scheduler, network, z), rtol=0, atol=5e-3)


AZULA = pytest.mark.skipif(importlib.util.find_spec("azula") is None, reason="azula is not installed")


@pytest.mark.parametrize("path", ["vp", "ve", "edm", "rectified", "cosine"])
@pytest.mark.parametrize(
    "name",
    ["ddim_karras", "dpmpp_2m", "dpmpp_3m_exponential", "euler", pytest.param("azula_vab_2_rectified", marks=AZULA)],
)
def test_peers_reach_the_exact_endpoints_of_gaussian_data(name, path):
    model = ExactModel(gaussian(), sde_named(path))
    level, z = model.sde.at(model.sde.t_start), torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    exact = endpoints(model.data, z.double() * model.sde.prior_std / level.alpha, level.sigma / level.alpha)
    found = Sampler(PeerSolver(name), steps=150).sample(model, start=z * model.sde.prior_std)
    assert (found.nfe, found.x.dtype) == (150, torch.float32)
    assert float((found.x - exact).norm(dim=1).median()) < 0.03


def test_every_peer_has_a_sampler_and_spends_its_budget_on_vp_at_most():
    model, z = exact_model(VPSDE()), torch.randn(3, 2)
    for name in names():
        if not name.startswith("azula") or AZULA.args[0] is False:
            assert 7 <= Sampler(PeerSolver(name), steps=8).sample(model, start=z).nfe <= 8, name


@pytest.mark.parametrize("name", ["unipc", "heun", "euler_karras", "deis"])
def test_images_are_drawn_like_vectors(name):
    flat = exact_model(VPSDE())
    points = torch.randn(6, 1, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    image, flat = ExactModel(points, VPSDE()), ExactModel(points.flatten(1), VPSDE())
    z = torch.randn(5, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn(name, image, z).flatten(1), drawn(name, flat, z.flatten(1)), rtol=0, atol=1e-5)


def test_peers_are_rows_beside_ours_and_a_path_without_their_levels_is_an_error_of_its_row():
    solvers = ["ddim", "peer:dpmpp_2m_karras", "peer:unipc"]
    found = compare(Mixture(), solvers=solvers, sdes=["vp", "ve"], budgets=[6], n=20, seeds=2)
    rows = {(row.name, row.setting): row for row in found.rows}
    assert {row.nfe for row in found.succeeded} == {6.0}
    assert len(found.succeeded) == 5
    assert "peer:unipc has no levels for VESDE; take" in rows["peer:unipc", "ve"].error
    assert rows["peer:unipc", "vp"].values["endpoint_rms"]


def test_what_is_not_known_or_not_installed_is_refused(monkeypatch):
    with pytest.raises(InputError, match=r"^solvers: peer:unipcc is not known; did you mean peer:unipc\?$"):
        compare(Mixture(), solvers=["peer:unipcc"])
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r"^solvers: peer:unipc needs diffusers; pip install 'scoresde\[peers\]'$"):
        compare(Mixture(), solvers=["auto", "peer:unipc"])


def test_betas_are_those_of_the_path():
    slow = peer("dpmpp_2m", VPSDE(beta_max=10.0)).scheduler
    assert float(slow.alphas_cumprod[-1]) == pytest.approx(float(VPSDE(beta_max=10.0).at(1.0).alpha) ** 2, rel=0.05)
