"""A model of this project as a folder of diffusers, where that layout can hold it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from scoresde.convert.diffusers import all_parts, frequencies
from scoresde.convert.levels import DiscreteVPSDE
from scoresde.convert.model import LabelledModel
from scoresde.convert.parts import SAME, Form, write
from scoresde.errors import InputError
from scoresde.model import ScoreModel
from scoresde.nets import NCSNpp
from scoresde.nets.attention import ImageAttention
from scoresde.nets.blocks import ResampledConv, ResidualBlock, StridedConv
from scoresde.nets.embedding import Modulation, Waves
from scoresde.nets.skip_unet import Level


def _flip_halves(t: Tensor) -> Tensor:
    return t.reshape(len(t), 2, -1).flip(2).reshape(t.shape)


_RISING = Form(_flip_halves, _flip_halves)  # columns of a layer over features (cosines, sines), frequencies rising
_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
_TARGETS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def to_diffusers(model: ScoreModel, folder: str | Path, event_shape: Sequence[int]) -> list[str]:
    """Write the network of a model as a `UNet2DModel`, with a scheduler where one fits.

    Args:
        model: its network must be the DDPM form of `NCSNpp`: `block=ddpm`, no filter, no pictures beside the features,
            no rescaling, positional noise features, attention on both ways alike.
        folder: to make; its parent must be there, it must not.
        event_shape: (channels, height, width) of one image.

    Returns:
        Lines on how to use it: what the timesteps are, and whether there is a scheduler.

    Raises:
        InputError: that layout cannot hold it, with the reason; or the folder cannot be made.
    """
    net, target = model.net, Path(folder).expanduser()
    if target.exists():
        raise InputError(f"out: {target} is there already; give the name of a new folder")
    unet = _config(net, event_shape)
    assert isinstance(net, NCSNpp)
    tensors = write(list(all_parts(net, _frequencies(net)[1], negated=False)), net.state_dict())
    tensors = {name: t for name, t in tensors.items() if name not in ("frequencies", "null")}
    scheduler, notes = _meaning(model, net)
    aside = target.with_name(f".tmp-{target.name}-{os.getpid()}")
    try:
        _write(aside, unet, tensors, scheduler)
        aside.rename(target)
    except OSError as error:
        raise InputError(f"out: {target} cannot be made ({error}); give a new folder in one that is there") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return notes


def _refuse(what: str) -> InputError:
    return InputError(f"to=diffusers: a UNet2DModel cannot hold this network: {what}")


def _config(net: nn.Module, event_shape: Sequence[int]) -> dict[str, Any]:
    """What `config.json` says of a network."""
    if not isinstance(net, NCSNpp):
        raise _refuse(f"{type(net).__name__} is another one; the DDPM form of NCSNpp has that layout")
    blocks = [m for m in net.modules() if isinstance(m, ResidualBlock)]
    down, up = (cast(list[Level], list(way)) for way in (net.down, net.up))
    _check(net, blocks, [*down, *up])
    norms = {(m.num_groups, m.eps) for m in net.modules() if isinstance(m, nn.GroupNorm)}
    if len(norms) > 1:
        found = sorted(number for number, _ in norms)
        raise _refuse(f"its norms have {found} groups, which must be one number (group_width=1)")
    groups, eps = norms.pop()
    pads = {bool(m.ends) for m in net.modules() if isinstance(m, StridedConv)}
    kinds = ["Attn" if attends else "" for attends in _attending(down, up)]
    attentions = [m for m in net.modules() if isinstance(m, ImageAttention)]
    widths = {m.out.in_features // m.heads for m in attentions}
    return {
        "_class_name": "UNet2DModel",
        "sample_size": list(event_shape[1:]),
        "in_channels": event_shape[0],
        "out_channels": event_shape[0],
        "block_out_channels": [cast(ResidualBlock, level.blocks[0]).conv2.out_channels for level in down],
        "layers_per_block": len(down[0].blocks),
        "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpBlock2D" for kind in kinds[::-1]],
        "attention_head_dim": None if all(m.heads == 1 for m in attentions) else widths.pop(),
        "norm_num_groups": groups,
        "norm_eps": eps,
        "downsample_padding": 0 if True in pads else 1,
        "flip_sin_to_cos": True,
        "freq_shift": _frequencies(net)[0],
        "dropout": blocks[0].dropout,
        "num_class_embeds": net.condition.size if net.condition.kind == "class" else None,
    }


def _attending(down: Sequence[Level], up: Sequence[Level]) -> list[bool]:
    """Whether each level attends, which must be behind every block on both ways."""
    ways = [
        [{cast(ResidualBlock, b).attention is not None for b in level.blocks} for level in way] for way in (down, up)
    ]
    if ways[0] != ways[1][::-1] or any(len(found) > 1 for found in ways[0]):
        raise _refuse("its levels attend behind their last block only on the way up (attention_up=last)")
    return [found.pop() for found in ways[0]]


def _check(net: NCSNpp, blocks: Sequence[ResidualBlock], levels: Sequence[Level]) -> None:
    """Raise unless the network is of the DDPM form."""
    steps = [level.resample for level in levels if level.resample is not None]
    if any(not isinstance(step, StridedConv | ResampledConv) or step.conv is None for step in steps):
        raise _refuse("it halves its images within residual blocks, by a filter or without weights (block, fir)")
    if any(level.side is not None for level in levels):
        raise _refuse("pictures run beside its features (progressive_input, progressive_output)")
    if any(b.rescale for b in blocks):
        raise _refuse("its sums are divided by sqrt(2) (rescale=true)")
    if not isinstance(net.modulation, Modulation):
        raise _refuse("it is not told the noise level (noise=none)")
    if net.condition.kind not in (None, "class"):
        raise _refuse(f"its condition is {net.condition.kind}; classes can be held")
    if net.condition.kind and net.modulation._listens != len(net.modulation.hidden) - 1:
        raise _refuse("classes are added to its first layer over the noise features (condition_layer=first)")


def _frequencies(net: NCSNpp) -> tuple[int, Form]:
    """The `freq_shift` that gives the frequencies of the noise features, and the columns that belong to these."""
    own = cast(Waves, cast(Modulation, net.modulation).embed).frequencies.float().cpu()
    for shift in (1, 0):
        for candidate, form in ((own, SAME), (own.flip(0), _RISING)):
            if torch.allclose(candidate, frequencies(len(own), shift), rtol=1e-5, atol=0):
                return shift, form
    raise _refuse("its noise features have other frequencies (noise=fourier)")


def _meaning(model: ScoreModel, net: NCSNpp) -> tuple[dict[str, Any] | None, list[str]]:
    """The scheduler whose steps are the network's labels, if there is one, and how to call the network."""
    waves, sde = cast(Waves, cast(Modulation, net.modulation).embed), model.sde
    notes = ["the class of no class is left out"] if net.condition.kind else []
    if isinstance(model, LabelledModel) and isinstance(sde, DiscreteVPSDE) and model.precond in _TARGETS:
        numbers = [model.label_scale, model.label_shift, model.gain, model.centre, waves.factor, waves.offset]
        if model.label == "time" and numbers == [sde.levels - 1, 0, 1, 0, 1, 0]:
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


def _write(aside: Path, unet: dict[str, Any], tensors: dict[str, Tensor], scheduler: dict[str, Any] | None) -> None:
    from safetensors.torch import save_file

    place = aside / "unet"
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(unet, indent=2) + "\n", encoding="utf-8")
    save_file(
        {k: t.detach().cpu().clone() for k, t in tensors.items()},
        place / "diffusion_pytorch_model.safetensors",
        {"format": "pt"},
    )
    if scheduler is not None:
        (aside / "scheduler").mkdir()
        (aside / "scheduler" / "scheduler_config.json").write_text(
            json.dumps(scheduler, indent=2) + "\n", encoding="utf-8"
        )
        index = {
            "_class_name": "DDPMPipeline",
            "scheduler": ["diffusers", "DDPMScheduler"],
            "unet": ["diffusers", "UNet2DModel"],
        }
        (aside / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
