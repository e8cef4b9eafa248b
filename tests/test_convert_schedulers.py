"""A network of diffusers with each of its schedulers takes the same steps here, and what is not known is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from nets_support import perturbed
from support import exact_model
from torch import Tensor

import scoresde
from scoresde import EDMSDE, DiscreteVPSDE, InputError, LevelsVPSDE, RectifiedSDE, Sampler
from scoresde.convert import convert
from scoresde.sampling import DDIM, Explicit

diffusers = pytest.importorskip("diffusers", reason="diffusers is installed with the extra dev")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
UNET = {"sample_size": 8, "block_out_channels": (8,), "layers_per_block": 1, "norm_num_groups": 4}
UNET |= {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "attention_head_dim": None}


@pytest.fixture(scope="module")
def unet() -> Any:
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(**UNET).eval().requires_grad_(False)
    return perturbed(net, torch.Generator().manual_seed(1))


def converted(unet: Any, scheduler: Any, folder: Path, **changes: Any) -> Any:
    """The model of a pipeline, whose scheduler's file may say something else."""
    unet.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    convert(folder, folder / "run")
    return scoresde.load(folder / "run").model


def their_steps(unet: Any, scheduler: Any, x: Tensor, steps: int = 6) -> list[tuple[float, float, Tensor, Tensor]]:
    """Each step of their sampler: the sigmas of its ends, and x there."""
    scheduler.set_timesteps(steps)
    taken = []
    for i, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        after = scheduler.step(unet(scaled, t).sample, t, x).prev_sample
        taken.append((float(scheduler.sigmas[i]), float(scheduler.sigmas[i + 1]), x, after))
        x = after
    return taken


@pytest.mark.parametrize("options", [{}, {"shift": 3.0}, {"num_train_timesteps": 500, "use_karras_sigmas": True}])
def test_flow_matching_takes_the_steps_of_diffusers(unet: Any, options: dict[str, Any], tmp_path: Path) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**options)
    model = converted(unet, scheduler, tmp_path)
    assert isinstance(model.sde, RectifiedSDE)
    assert model.sde.t_min == pytest.approx(scheduler.sigma_min, rel=1e-5)
    for t, s, x, after in their_steps(unet, scheduler, torch.randn(2, 3, 8, 8)):
        if t < 1:  # at 1 there is no data, and our path ends in front of it
            assert (x + (s - t) * model(x, t).velocity - after).abs().max() < 1e-5 * after.abs().max()


@pytest.mark.parametrize("options", [{}, {"prediction_type": "v_prediction", "sigma_data": 0.7, "sigma_max": 40.0}])
def test_edm_takes_the_steps_of_diffusers(unet: Any, options: dict[str, Any], tmp_path: Path) -> None:
    scheduler = diffusers.EDMEulerScheduler(**options)
    model = converted(unet, scheduler, tmp_path)
    assert isinstance(model.sde, EDMSDE)
    assert (model.sde.sigma_min, model.sde.sigma_max) == (0.002, options.get("sigma_max", 80.0))
    for t, s, x, after in their_steps(unet, scheduler, options.get("sigma_max", 80.0) * torch.randn(2, 3, 8, 8)):
        here = model(x, t)
        assert (x + (s - t) * here.eps - after).abs().max() < 1e-5 * after.abs().max()
    assert model.sigma_data == options.get("sigma_data", 0.5)


BETAS = torch.linspace(0.003, 0.09, 50).tolist()


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(
    "options", [{"trained_betas": BETAS}, {"rescale_betas_zero_snr": True}, {"beta_schedule": "scaled_linear"}], ids=str
)
def test_a_chain_takes_the_steps_of_diffusers(
    unet: Any, options: dict[str, Any], prediction: str, tmp_path: Path
) -> None:
    kept = {"clip_sample": False, "prediction_type": prediction}
    scheduler = diffusers.DDIMScheduler(50, **options, **kept)
    model = converted(unet, scheduler, tmp_path)
    assert isinstance(model.sde, LevelsVPSDE)
    assert isinstance(model.sde, DiscreteVPSDE) is (set(options) == {"beta_schedule"})
    # their last level has no signal, and no x0 follows from eps there
    last = 49 - ("rescale_betas_zero_snr" in options and prediction == "epsilon")
    assert model.sde.last_level == last
    scheduler.set_timesteps(50)
    x = torch.randn(2, 3, 8, 8)
    for k in (last, 23, 10):  # nearer to the data their float32 loses digits
        after = scheduler.step(unet(x, k).sample, k, x).prev_sample
        here, (alpha, sigma, _) = model(x, k / last), model.sde.at((k - 1) / last)
        assert (alpha * here.x0 + sigma * here.eps - after).abs().max() < 1e-5 * after.abs().max()


@pytest.mark.parametrize("steps", [5, 50])
def test_a_chain_without_signal_at_the_end_gives_the_samples_of_diffusers(steps: int) -> None:
    """DDIM from the last level, where alpha = 0, with the exact v of a mixture."""
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    settings |= {"timestep_spacing": "trailing", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    scheduler = diffusers.DDIMScheduler(1000, **settings)
    alpha2 = scheduler.alphas_cumprod.double()
    assert alpha2[-1] == 0
    model = exact_model(LevelsVPSDE(tuple(alpha2.tolist())))
    scheduler.set_timesteps(steps)
    numbers = scheduler.timesteps.double()
    x = theirs = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for k in scheduler.timesteps:
        alpha, sigma = alpha2[k].sqrt(), (1 - alpha2[k]).sqrt()
        x0 = model.data.posterior_mean(theirs, alpha, sigma)
        theirs = scheduler.step((alpha * theirs - x0) / sigma, k, theirs).prev_sample
    ours = Sampler(DDIM(), Explicit((numbers / 999).tolist()), steps).sample(model, start=x, at=1.0).x
    assert (ours - theirs).abs().max() < 1e-4  # their alphas are of float32
    assert model.sde.lam(model.sde.t_start).item() == pytest.approx(-7, abs=1e-6)  # of the other grids
    real, drawn = model.data.sample(4000), Sampler(steps=30).sample(model, n=2000, dtype=torch.float64).x
    assert (drawn.mean(0) - real.mean(0)).abs().max() < 0.1
    assert (drawn.std(0) - real.std(0)).abs().max() < 0.1


@pytest.mark.parametrize("name", ["HeunDiscrete", "EulerDiscrete", "DPMSolverMultistep", "PNDM", "DPMSolverSDE"])
def test_other_samplers_of_the_chain_have_their_own_rates_where_their_file_has_none(
    unet: Any, name: str, tmp_path: Path
) -> None:
    if name == "DPMSolverSDE":  # which needs another package
        reference = diffusers.HeunDiscreteScheduler()
    else:
        reference = getattr(diffusers, f"{name}Scheduler")()
    unet.save_pretrained(tmp_path / "unet")
    (tmp_path / "scheduler").mkdir()
    file = tmp_path / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({"_class_name": f"{name}Scheduler"}))
    convert(tmp_path, tmp_path / "run")
    sde = scoresde.load(tmp_path / "run").model.sde
    times = torch.linspace(0, 1, 1000, dtype=torch.float64)
    assert (sde.alpha(times) ** 2 - reference.alphas_cumprod).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_class_name": "DDPMWuerstchenScheduler"}, "_class_name: DDPMWuerstchenScheduler cannot"),
        ({"_class_name": "LCMScheduler"}, "_class_name: LCMScheduler cannot"),
        ({"_class_name": "ScoreSdeVeScheduler"}, "_class_name: ScoreSdeVeScheduler cannot"),
        ({"_class_name": None}, "_class_name: None cannot"),
        ({"prediction_type": "flow_prediction"}, "prediction_type: 'flow_prediction' cannot"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas: True cannot"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule: 'sigmoid' cannot"),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "sample"}, "prediction_type: 'sample' cannot"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": True}, "invert_sigmas: True cannot"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type: 'continuous'"),
    ],
)
def test_what_a_scheduler_may_be_otherwise_is_refused_by_name(
    unet: Any, change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        converted(unet, diffusers.DDPMScheduler(), tmp_path, **change)
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_without_a_scheduler_the_sde_says_what_the_output_is(unet: Any, tmp_path: Path) -> None:
    unet.save_pretrained(tmp_path / "unet")
    x, t = torch.randn(2, 3, 8, 8), 0.4
    convert(tmp_path, tmp_path / "flow", sde={"_target_": "scoresde.RectifiedSDE"})
    expected = unet(x, 1000 * t).sample
    assert (scoresde.load(tmp_path / "flow").model(x, t).velocity - expected).abs().max() < 1e-5 * expected.abs().max()
    convert(tmp_path, tmp_path / "edm", sde={"_target_": "scoresde.EDMSDE"})
    assert scoresde.load(tmp_path / "edm").model.precond == "edm"
