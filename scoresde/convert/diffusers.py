"""Folders of diffusers with a UNet2DModel, in its DDPM form and in its form for NCSN++ (score_sde_ve).

Facts about that layout are here and in `export`, and nowhere else. diffusers itself is not needed.
"""

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from scoresde.convert.files import Source
from scoresde.convert.names import CLASSES, FREQUENCIES, NULL, Names, Spot
from scoresde.convert.parts import NEGATED, SAME, SINES_FIRST, Form, Tensors, frequencies, table
from scoresde.convert.plan import (
    Allowed,
    Config,
    Facts,
    Given,
    Layout,
    Plan,
    arguments,
    check_allowed,
    discrete_vp,
    labelled,
)
from scoresde.errors import InputError, refuse

_FILE = "file: config.json"
_ALLOWED: Allowed = {"mid_block_type": ("UNetMidBlock2D",), "downsample_type": ("conv",), "upsample_type": ("conv",)}
_ALLOWED |= {"act_fn": ("silu", "swish"), "resnet_time_scale_shift": ("default",), "add_attention": (True,)}
_ALLOWED |= {"class_embed_type": (None,), "attn_norm_num_groups": (None,)}
_ALLOWED_DDPM: Allowed = {"time_embedding_type": ("positional",), "mid_block_scale_factor": (1,)}
_ALLOWED_DDPM |= {"downsample_padding": (1, 0)}
_ALLOWED_SCHEDULE: Allowed = {"trained_betas": (None,), "rescale_betas_zero_snr": (False, None)}
_VE = {"attention_up": "last", "noise": "fourier", "block": "biggan", "fir": True, "rescale": True}
_VE |= {"progressive_input": "input_skip", "progressive_output": "output_skip", "resample_pad": "end"}
_VE |= {"groups": 32, "group_width": 4}
_DDPM = {"attention_up": "every", "noise": "positional", "block": "ddpm", "fir": False, "rescale": False}
_DDPM |= {"progressive_input": "none", "progressive_output": "none", "group_width": 1}
_OLD = table("query=to_q key=to_k value=to_v proj_attn=to_out.0")  # names of attention before 0.15
SCHEDULES = table("linear=linear scaled_linear=scaled_linear squaredcos_cap_v2=cosine")
TARGETS = table("epsilon=eps sample=x0 v_prediction=v")
_ALLOWED_SCHEDULE |= {"beta_schedule": tuple(SCHEDULES), "prediction_type": tuple(TARGETS)}


class UNetNames(Names):
    """The names of a network with so many levels, in either form."""

    block = table("norm1=norm1 conv1=conv1 norm2=norm2 conv2=conv2 skip=conv_shortcut modulation=time_emb_proj")
    attention = table("norm=group_norm out=to_out.0")
    qkv = ("to_q", "to_k", "to_v")

    def __init__(self, levels: int, features: Form, ve: bool = False) -> None:
        self._levels, self._ve, self.features = levels, ve, features
        self.sign = NEGATED if ve else SAME
        self.top = table(
            f"{FREQUENCIES}={'time_proj.weight' if ve else 'frequencies'} modulation.hidden.0=time_embedding.linear_1 "
            f"modulation.hidden.1=time_embedding.linear_2 {CLASSES}=class_embedding.weight {NULL}=null "
            "stem=conv_in head.norm=conv_norm_out head.conv=conv_out"
        )

    def place(self, spot: Spot) -> tuple[str, str]:
        up = spot.direction == "up"
        number = self._levels - 1 - spot.level if up else spot.level
        here = "mid_block" if spot.direction == "middle" else f"{spot.direction}_blocks.{number}"
        if spot.role == "block":  # of attention in the form for NCSN++ one for the level, behind its last block
            return f"{here}.resnets.{spot.number}", f"{here}.attentions.{0 if self._ve and up else spot.number}"
        if spot.role == "resample":
            inside = hasattr(spot.module, "sizes")
            return f"{here}.resnet_{spot.direction}" if inside else f"{here}.{spot.direction}samplers.0.conv", ""
        if up and spot.level == 0:
            return self.top["head.norm"], self.top["head.conv"]
        return (f"{here}.skip_norm", f"{here}.skip_conv") if up else (f"{here}.skip_conv", "")


class Diffusers(Layout):
    """See the module."""

    name = "diffusers"

    def matches(self, source: Source) -> bool:
        return "unet" in source.settings

    def given(self, config: Mapping[str, Any]) -> dict[str, Given]:
        """Nothing: the folder has its own configuration."""
        refuse(bool(config), "config: a folder of diffusers has its own; leave config= out")
        return {}

    def plan(self, source: Source, facts: Facts) -> Plan:
        unet, schedule = source.settings["unet"], source.settings.get("scheduler", {})
        if unet.get("_class_name") != "UNet2DModel":
            raise InputError(f"file: the folder holds a {unet.get('_class_name')}; a UNet2DModel can be converted")
        ve = "Skip" in str(unet.get("down_block_types"))
        net = _net(unet, facts, ve)
        sde, model = _ve_meaning(schedule, facts) if ve else _ddpm_meaning(schedule, facts)
        if unet.get("center_input_sample", False):
            model |= {"gain": 2.0, "centre": 0.5}
        features = SAME if unet.get("flip_sin_to_cos", True) and not ve else SINES_FIRST
        names = UNetNames(len(net["multipliers"]), features, ve)
        prepare = partial(_prepared, net=net, shift=unet.get("freq_shift", 0))
        return Plan(net, model, sde, (unet.get("in_channels", 3), *_size(unet, facts)), names, not ve, prepare)


def _prepared(tensors: Tensors, net: Config, shift: float) -> Tensors:
    """With today's names, and what no file stores."""
    tensors = {_renamed(k): t for k, t in tensors.items()}
    if net["noise"] == "positional":
        tensors["frequencies"] = frequencies(net["channels"] // 2, shift)
    if "condition" in net:
        tensors["null"] = torch.zeros(4 * net["channels"])
    return tensors


def _renamed(name: str) -> str:
    return re.sub(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.", lambda m: f"{m[1]}.{_OLD[m[2]]}.", name)


def _size(unet: Mapping[str, Any], facts: Facts) -> tuple[int, int]:
    """Height and width of an image."""
    sizes = unet.get("sample_size") or facts.need("image_size", "give size= with the height and width of an image")
    height, width = (int(n) for n in (sizes if isinstance(sizes, list) else (sizes, sizes)))
    if (size := facts.given.get("image_size")) is not None and size.value != height:
        raise InputError(f"{size.name}: {size.value} was given, but in config.json sample_size is {sizes}")
    return height, width


def _net(unet: Mapping[str, Any], facts: Facts, ve: bool) -> Config:
    check_allowed(unet, _ALLOWED if ve else _ALLOWED | _ALLOWED_DDPM, _FILE)
    widths, attention = unet["block_out_channels"], _attention(unet, "Skip" if ve else "")
    dropout = float(unet.get("dropout", 0.0))
    found = (widths[0], widths, unet.get("layers_per_block", 2), attention, unet.get("num_class_embeds"), dropout)
    net = arguments(facts, "config.json", *found) | {"_target_": "scoresde.nets.NCSNpp"}
    net |= {"head_width": unet.get("attention_head_dim", 8) or 0, "norm_eps": unet.get("norm_eps", 1e-5)}
    if ve:
        _check_ve(unet, [widths[k] for k in net["attention"]])
        return net | _VE
    pad = "end" if unet.get("downsample_padding", 1) == 0 else "both"
    return net | _DDPM | {"resample_pad": pad, "groups": unet.get("norm_num_groups", 32)}


def _attention(unet: Mapping[str, Any], kind: str) -> list[int]:
    """The levels that attend.

    Raises:
        InputError: channels, widths or blocks are not those of our network.
    """
    inputs, outputs = unet.get("in_channels", 3), unet.get("out_channels", 3)
    refuse(inputs != outputs, f"{_FILE} has in_channels {inputs} and out_channels {outputs}, which must be the same")
    widths = unet["block_out_channels"]
    down, up = _attended(unet["down_block_types"], f"{kind}Down"), _attended(unet["up_block_types"], f"{kind}Up")
    if down != up[::-1] or any(w % widths[0] for w in widths):
        raise InputError(f"{_FILE} has widths {widths} and attention at {down} and {up[::-1]}, which is not supported")
    return [k for k, there in enumerate(down) if there]


def _attended(types: list[str], kind: str) -> list[bool]:
    """Which blocks attend, of those of one kind."""
    plain = f"{kind}Block2D"
    for name in types:
        if name not in (plain, f"Attn{plain}"):
            raise InputError(f"{_FILE} has a block {name}; {plain} and Attn{plain} can be converted")
    return [name != plain for name in types]


def _check_ve(unet: Mapping[str, Any], attended: list[int]) -> None:
    """Raise InputError unless it has NCSN++'s features, factor and groups: of 4 channels or more, at most 32.

    That form of diffusers has 32 groups wherever it attends, whatever the width.
    """
    check_allowed({"time_embedding_type": "positional"} | dict(unet), {"time_embedding_type": ("fourier",)}, _FILE)
    widths, groups = unet["block_out_channels"], unet.get("norm_num_groups", 32)
    differ = groups is not None and any(groups != min(w // 4, 32) for w in (widths[0], widths[-1]))
    if differ or any(w < 128 for w in attended):
        raise InputError(f"file: the groups of its norms, for widths {widths}, are not those of NCSN++")
    factor = unet.get("mid_block_scale_factor", 1)
    if not math.isclose(factor, math.sqrt(2), rel_tol=1e-4):
        raise InputError(f"{_FILE} has mid_block_scale_factor {factor}; sqrt(2) can be converted")


def _ddpm_meaning(schedule: Mapping[str, Any], facts: Facts) -> tuple[Config, Config]:
    """The path through the levels of the scheduler, or that of DDPM."""
    check_allowed(schedule, _ALLOWED_SCHEDULE, "file: the scheduler's")
    kind, target = schedule.get("beta_schedule", "linear"), schedule.get("prediction_type", "epsilon")
    values = {
        "schedule": SCHEDULES[kind],
        "levels": schedule.get("num_train_timesteps", 1000),
        "first": schedule.get("beta_start", 1e-4),
        "last": schedule.get("beta_end", 0.02),
    }
    for key, value in values.items():
        values[key] = facts.infer(key, value, "scheduler_config.json") if schedule else facts.get(key, value)
    sde = discrete_vp(**values)
    return sde, labelled("time", float(sde["levels"] - 1), precond=TARGETS[target])


def _ve_meaning(schedule: Mapping[str, Any], facts: Facts) -> tuple[Config, Config]:
    """The variance exploding SDE; the network's label is sigma."""
    for key in ("sigma_min", "sigma_max"):
        if key in schedule:
            facts.infer(key, float(schedule[key]), "scheduler_config.json")
    low, high = facts.get("sigma_min", 0.01), facts.need("sigma_max", "give sde=ve sde.sigma_max=1348 or so")
    sde = {"_target_": "scoresde.VESDE", "sigma_min": float(low), "sigma_max": float(high)}
    return sde, {**labelled("log_sigma", 1.0), "sigma_data": 0.25}
