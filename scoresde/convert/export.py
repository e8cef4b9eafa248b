"""A model of this project as a folder of diffusers, where that layout can hold it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from scoresde.convert.conversion import free_folder, whole
from scoresde.convert.diffusers import UNetNames
from scoresde.convert.forms import Form, same
from scoresde.convert.parts import frequencies, write
from scoresde.convert.schedulers import SCHEDULES, TARGETS
from scoresde.described import describe
from scoresde.errors import InputError
from scoresde.files import write_json
from scoresde.labelled import LabelledModel
from scoresde.model import ScoreModel
from scoresde.nets import NCSNpp
from scoresde.nets.embedding import Modulation, Waves
from scoresde.sde import DiscreteVPSDE


def _rising(t: Tensor) -> Tensor:
    """Columns of a layer over features (cosines, sines), with rising frequencies."""
    return t.reshape(len(t), 2, -1).flip(2).reshape(t.shape)


_SCHEDULES = {ours: theirs for theirs, ours in SCHEDULES.items()}
_TARGETS = {ours: theirs for theirs, ours in TARGETS.items()}
_WANTED = {"block": "ddpm", "fir": False, "resample_conv": True, "rescale": False, "noise": "positional"}
_WANTED |= {"progressive_input": "none", "progressive_output": "none", "outputs": 1}
_PIPELINE = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
_PIPELINE |= {"scheduler": ["diffusers", "DDPMScheduler"]}


def to_diffusers(model: ScoreModel, folder: str | Path, event_shape: Sequence[int]) -> list[str]:
    """Write the network of a model as a `UNet2DModel`, with a scheduler where one fits.

    Args:
        model: its network must be the DDPM form of `NCSNpp`: `block=ddpm`, no filter, no images beside the features,
            no rescaling, positional noise features, the same attention in both paths.
        folder: to make; its parent must exist, it must not.
        event_shape: (channels, height, width) of one image.

    Returns:
        Lines on how to use it: what the timesteps are, and whether there is a scheduler.

    Raises:
        InputError: that layout cannot hold it, with the reason; or the folder cannot be made.
    """
    net, target = model.net, free_folder(folder)
    if not isinstance(net, NCSNpp):
        raise _refusal(f"{type(net).__name__} is not supported; the DDPM form of NCSNpp is")
    options = describe(net)
    _check(net, options)
    shift, features = _frequencies(net)
    unet = _config(net, options) | {"freq_shift": shift, "sample_size": list(event_shape[1:])}
    unet |= {"in_channels": event_shape[0], "out_channels": event_shape[0]}
    tensors = write(list(UNetNames(len(net.down), features).parts(net)), net.state_dict())
    scheduler, notes = _meaning(model, net)
    with whole(target) as aside:
        _write(aside, unet, tensors, scheduler)
    return notes


def _refusal(what: str) -> InputError:
    return InputError(f"to=diffusers: a UNet2DModel cannot hold this network: {what}")


def _check(net: NCSNpp, options: dict[str, Any]) -> None:
    """Raise InputError unless the network is of the DDPM form."""
    wanted = dict(_WANTED)
    if options["attention"]:
        wanted["attention_up"] = "every"
    if net.condition.members:
        wanted["condition_layer"] = "last"
    for key, value in wanted.items():
        if options[key] != value:
            raise _refusal(f"it has {key}={options[key]}; only {key}={value} is supported")
    kinds = ", ".join(net.condition.members)
    if kinds not in ("", "class"):
        raise _refusal(f"its condition is {kinds}; only classes are supported")


def _config(net: NCSNpp, options: dict[str, Any]) -> dict[str, Any]:
    """What `config.json` says of a network, except for its images."""
    levels = len(options["multipliers"])
    attended = {level % levels for level in options["attention"]}
    blocks = [f"{'Attn' if level in attended else ''}DownBlock2D" for level in range(levels)]
    return {
        "_class_name": "UNet2DModel",
        "block_out_channels": [options["channels"] * m for m in options["multipliers"]],
        "layers_per_block": options["blocks"],
        "down_block_types": blocks,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(blocks)],
        "attention_head_dim": options["head_width"] or None,
        "norm_num_groups": _groups(net),
        "norm_eps": options["norm_eps"],
        "downsample_padding": {"end": 0, "both": 1}[options["resample_pad"]],
        "flip_sin_to_cos": True,
        "dropout": options["dropout"],
        "num_class_embeds": getattr(net.condition.members.get("class"), "size", None),
    }


def _groups(net: NCSNpp) -> int:
    norms = {m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)}
    if len(norms) > 1:
        raise _refusal(f"its norms have {sorted(norms)} groups, which must be one number (group_width=1)")
    return norms.pop()


def _frequencies(net: NCSNpp) -> tuple[int, Form]:
    """The `freq_shift` that gives the frequencies of the noise features, and the columns that belong to these."""
    own = cast(Modulation, net.modulation).embed.frequencies.float().cpu()
    for shift in (1, 0):
        for candidate, form in ((own, same), (own.flip(0), _rising)):
            if torch.allclose(candidate, frequencies(len(own), shift), rtol=1e-5, atol=0):
                return shift, form
    raise _refusal("its noise features have other frequencies (noise=fourier)")


def _meaning(model: ScoreModel, net: NCSNpp) -> tuple[dict[str, Any] | None, list[str]]:
    """The scheduler whose steps are the network's labels, if there is one, and how to call the network."""
    waves, sde = cast(Modulation, net.modulation).embed, model.sde
    notes = ["the class of no class is left out"] if net.condition.members else []
    if _numbered(model, waves):
        assert isinstance(sde, DiscreteVPSDE)
        scheduler = {
            "_class_name": "DDPMScheduler",
            "num_train_timesteps": sde.levels,
            "beta_schedule": _SCHEDULES[sde.schedule],
            "beta_start": sde.first,
            "beta_end": sde.last,
            "prediction_type": _TARGETS[model.precond],
        }
        return scheduler, [*notes, f"its timesteps are the numbers of levels, 0 to {sde.levels - 1}"]
    label = f"timesteps are {waves.factor:g} c_noise + {waves.offset:g}"
    return None, [*notes, f"its {label} and its samples c_in x, as model.preconditioning has them; no scheduler fits"]


def _numbered(model: ScoreModel, waves: Waves) -> bool:
    """Whether the labels of the network are the numbers of the levels of its SDE."""
    sde = model.sde
    if not isinstance(model, LabelledModel) or not isinstance(sde, DiscreteVPSDE) or model.precond not in _TARGETS:
        return False
    numbers = [model.label_scale, model.label_shift, model.gain, model.centre, waves.factor, waves.offset]
    return model.label == "time" and numbers == [sde.levels - 1, 0, 1, 0, 1, 0]


def _write(aside: Path, unet: dict[str, Any], tensors: dict[str, Tensor], scheduler: dict[str, Any] | None) -> None:
    """The files of the folder; what diffusers computes itself is left out."""
    from safetensors.torch import save

    kept = {k: t.detach().cpu().clone() for k, t in tensors.items() if k not in ("frequencies", "null")}
    contents = {"unet/config.json": unet}
    if scheduler is not None:
        contents |= {"scheduler/scheduler_config.json": scheduler, "model_index.json": _PIPELINE}
    for name, content in contents.items():
        (aside / name).parent.mkdir(exist_ok=True)
        write_json(aside / name, content)
    (aside / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(save(kept, {"format": "pt"}))
