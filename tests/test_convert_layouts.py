"""Networks of other layouts become the same function, and go back to diffusers where that layout can hold them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from nets_support import perturbed

import scoresde
from scoresde import VPSDE, InputError, ScoreModel
from scoresde.convert import convert, to_diffusers
from scoresde.nets import NCSNpp

diffusers = pytest.importorskip("diffusers", reason="diffusers is installed with the extra dev")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
DDPM = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "norm_eps": 1e-6,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "attention_head_dim": None,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
TUTORIAL = {**DDPM, "flip_sin_to_cos": True, "freq_shift": 0, "attention_head_dim": 4, "num_class_embeds": 5}
TUTORIAL |= {"norm_eps": 1e-2}  # large, for 1e-5 and 1e-6 give nearly the same
DEFAULTS = {k: DDPM[k] for k in ("sample_size", "down_block_types", "up_block_types")} | {
    "block_out_channels": (32, 64)
}
VE = {
    **DDPM,
    "block_out_channels": (32, 128),  # that form has 32 groups wherever it attends
    "norm_num_groups": None,
    "time_embedding_type": "fourier",
    "mid_block_scale_factor": math.sqrt(2),
    "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D"),
    "up_block_types": ("AttnSkipUpBlock2D", "SkipUpBlock2D"),
}


def theirs(**options: Any) -> Any:
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(**options).eval().requires_grad_(False)
    frequencies = getattr(net.time_proj, "weight", None)
    kept = None if frequencies is None else frequencies.clone()
    perturbed(net, torch.Generator().manual_seed(1))
    if kept is not None:
        net.time_proj.weight.copy_(kept)
    return net


@pytest.mark.parametrize("options", [DDPM, TUTORIAL, DEFAULTS], ids=["ddpm", "heads and classes", "defaults"])
def test_a_ddpm_of_diffusers_goes_there_and_back(options: dict[str, Any], tmp_path: Path) -> None:
    net = theirs(**options)
    diffusers.DDPMPipeline(net, diffusers.DDPMScheduler(200, beta_end=0.05)).save_pretrained(tmp_path / "pipeline")
    convert(tmp_path / "pipeline", tmp_path / "run")
    run = scoresde.load(tmp_path / "run")
    x, k = torch.randn(3, 3, 8, 8), torch.tensor([0, 70, 199])
    classes = torch.tensor([0, 4, 2]) if "num_class_embeds" in options else None
    expected = net(x, k, classes).sample
    assert (run.model(x, k.double() / 199, classes).eps - expected).abs().max() < 1e-5 * expected.abs().max()
    to_diffusers(run.model, tmp_path / "back", run.event_shape)
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "back")
    assert (pipeline.unet(x, k, classes).sample - expected).abs().max() < 1e-5 * expected.abs().max()
    assert torch.equal(pipeline.scheduler.alphas_cumprod, diffusers.DDPMScheduler(200, beta_end=0.05).alphas_cumprod)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # diffusers before 0.42
@pytest.mark.parametrize("change", [{}, {"center_input_sample": True}, {"norm_eps": 1e-3}], ids=str)
def test_an_ncsnpp_of_diffusers_is_the_same_score(change: dict[str, Any], tmp_path: Path) -> None:
    net = theirs(**{**VE, **change})
    net.save_pretrained(tmp_path / "unet")
    sde = {"_target_": "scoresde.VESDE", "sigma_max": 348.0}
    convert(tmp_path / "unet", tmp_path / "run", sde=sde)
    model = scoresde.load(tmp_path / "run").model
    x, sigma = torch.rand(3, 3, 8, 8), torch.tensor([0.5, 4.0, 128.0])
    expected = net(x, sigma).sample
    got = model(x, model.sde.t_of_lam(-sigma.double().log())).score
    error = (got - expected).flatten(1).abs().amax(1) / expected.flatten(1).abs().amax(1)
    assert error.max() < 1e-5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift: 'scale_shift' cannot"),
        ({"downsample_padding": 2}, "downsample_padding: 2 cannot be converted; only 1 or 0"),
        ({"act_fn": "gelu"}, "act_fn: 'gelu'"),
        ({"out_channels": 6}, "in_channels 3 and out_channels 6"),
        ({"_class_name": "UNet2DConditionModel"}, "a UNet2DConditionModel; a UNet2DModel can be converted"),
        ({"up_block_types": ["UpBlock2D", "AttnUpBlock2D"]}, "attention at [False, True] and [True, False]"),
        ({"block_out_channels": [8, 24]}, "has (24, 16, 3, 3)"),
    ],
)
def test_what_such_a_folder_holds_otherwise_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    theirs(**DDPM).save_pretrained(tmp_path / "unet")
    config = json.loads((tmp_path / "unet" / "config.json").read_text())
    (tmp_path / "unet" / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError) as caught:
        convert(tmp_path / "unet", tmp_path / "run")
    assert words in str(caught.value) or "checkpoint: " in str(caught.value)
    assert not (tmp_path / "run").exists()


ours = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (), "groups": 4, "dropout": 0.0}
OWN = {**ours, "block": "ddpm", "fir": False, "progressive_input": "none", "rescale": False, "noise": "positional"}


def test_a_network_of_our_own_is_the_same_function_in_diffusers(tmp_path: Path) -> None:
    net = perturbed(NCSNpp((3, 8, 8), noise_scale=250.0, group_width=1, **OWN), torch.Generator().manual_seed(0))
    notes = to_diffusers(ScoreModel(net, VPSDE(), "eps"), tmp_path / "out", (3, 8, 8))
    assert "250" in notes[-1]
    back = diffusers.UNet2DModel.from_pretrained(tmp_path / "out" / "unet")
    x, c = torch.randn(3, 3, 8, 8), torch.tensor([-1.2, 0.1, 1.0])
    expected = net(x, c)
    assert (back(x, 250 * c).sample - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"block": "biggan"}, "block=biggan"),
        ({"fir": True}, "fir=True"),
        ({"resample_conv": False}, "resample_conv=False"),
        ({"rescale": True}, "rescale=True"),
        ({"noise": "fourier"}, "noise=fourier"),
        ({"noise": "none"}, "noise=none"),
        ({"attention": (0,)}, "attention_up=last"),
        ({"group_width": 4}, "[2, 4] groups"),
        ({"progressive_input": "input_skip"}, "progressive_input=input_skip"),
        ({"condition": "tokens", "condition_size": 3}, "its condition is tokens"),
    ],
)
def test_what_diffusers_cannot_hold_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    net = NCSNpp((3, 8, 8), **{**OWN, "group_width": 1, **change})
    with pytest.raises(InputError, match="to=diffusers") as caught:
        to_diffusers(ScoreModel(net, VPSDE()), tmp_path / "out", (3, 8, 8))
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())
