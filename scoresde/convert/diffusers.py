"""Folders of diffusers with a UNet2DModel, in its DDPM form and in its form for NCSN++ (score_sde_ve).

Facts about that layout are here and in `export`, and nowhere else. diffusers itself is not needed.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from scoresde.convert.facts import Facts, Given
from scoresde.convert.files import Source
from scoresde.convert.parts import NEGATED, SAME, SINES_FIRST, Form, Part, Tensors, layer
from scoresde.convert.plan import Config, Plan, labelled
from scoresde.convert.walk import Spot, spots
from scoresde.errors import InputError
from scoresde.nets import NCSNpp
from scoresde.nets.attention import ImageAttention
from scoresde.nets.blocks import ResidualBlock

NAME = "diffusers"
_TYPES = {  # what the blocks of each form are called, without and with attention
    False: (("DownBlock2D", "AttnDownBlock2D"), ("UpBlock2D", "AttnUpBlock2D")),
    True: (("SkipDownBlock2D", "AttnSkipDownBlock2D"), ("SkipUpBlock2D", "AttnSkipUpBlock2D")),
}
_FIXED = {  # what both forms must be, where the library's own default stands first
    "mid_block_type": ("UNetMidBlock2D",),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default",),
    "add_attention": (True,),
    "class_embed_type": (None,),
    "attn_norm_num_groups": (None,),
}
_DDPM = {"time_embedding_type": ("positional",), "mid_block_scale_factor": (1,)}
_VE = {"time_embedding_type": ("positional", "fourier")}
_PADS = {0: "end", 1: "both"}
_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # names of attention before 0.15
_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
_TARGETS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


def matches(source: Source) -> bool:
    """Whether this came from a folder of that layout."""
    return "unet" in source.settings


def given_by(config: Mapping[str, Any]) -> dict[str, Given]:
    """Nothing: the folder has its own configuration."""
    if config:
        raise InputError("config: a folder of diffusers has its own; leave config= out")
    return {}


def averaged(source: Source) -> Tensors | None:
    """None: such a folder holds one set of weights, which are averages by custom."""
    return None


def plan(source: Source, facts: Facts) -> Plan:
    """What our network, its SDE and its parts are.

    Raises:
        InputError: the folder holds another network, or one that is not to be had here.
    """
    unet, schedule = source.settings["unet"], source.settings.get("scheduler", {})
    if unet.get("_class_name") != "UNet2DModel":
        raise InputError(f"file: the folder holds a {unet.get('_class_name')}; a UNet2DModel can be converted")
    ve = "Skip" in str(unet.get("down_block_types"))
    net = _net(unet, facts, ve)
    sizes = unet.get("sample_size") or facts.need("image_size", "give size= with the height and width of an image")
    height, width = (int(n) for n in (sizes if isinstance(sizes, list) else (sizes, sizes)))
    if (size := facts.given("image_size")) is not None and size.value != height:
        raise InputError(f"{size.name}: {size.value} was given, but in config.json sample_size is {sizes}")
    sde, model = _ve_meaning(schedule, facts) if ve else _ddpm_meaning(schedule, facts)
    if unet.get("center_input_sample", False):
        model |= {"gain": 2.0, "centre": 0.5}
    sines = SAME if unet.get("flip_sin_to_cos", True) and not ve else SINES_FIRST

    def parts(made: nn.Module) -> list[Part]:
        assert isinstance(made, NCSNpp)
        return list(all_parts(made, sines, negated=ve))

    def prepare(given: Tensors) -> Tensors:
        given = {_renamed(k): t for k, t in given.items()}
        if not ve:
            given["frequencies"] = frequencies(net["channels"] // 2, unet.get("freq_shift", 0))
        if net.get("condition") == "class":
            given["null"] = torch.zeros(4 * net["channels"])
        return given

    return Plan(net, model, sde, (unet.get("in_channels", 3), height, width), not ve, parts, prepare)


def frequencies(number: int, shift: float) -> torch.Tensor:
    """Those of positional features, which are nowhere stored, in the precision in which they are used."""
    return torch.exp(-math.log(10000) * torch.arange(number, dtype=torch.float32) / (number - shift))


def _renamed(name: str) -> str:
    return re.sub(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.", lambda m: f"{m[1]}.{_OLD[m[2]]}.", name)


def _net(unet: Mapping[str, Any], facts: Facts, ve: bool) -> Config:
    for key, allowed in {**_FIXED, **(_VE if ve else _DDPM)}.items():
        value, wanted = unet.get(key, allowed[0]), allowed[-1]
        if value not in (allowed if key in _FIXED else (wanted,)):
            raise InputError(f"file: config.json has {key} {value!r}; {wanted!r} can be converted")
    pictures, outputs = unet.get("in_channels", 3), unet.get("out_channels", 3)
    if pictures != outputs:
        raise InputError(
            f"file: config.json has in_channels {pictures} and out_channels {outputs}, which must be the same"
        )
    widths = unet["block_out_channels"]
    down, up = (
        _attended(unet[f"{way}_block_types"], names) for way, names in zip(("down", "up"), _TYPES[ve], strict=True)
    )
    if down != up[::-1] or any(w % widths[0] for w in widths):
        raise InputError(
            f"file: config.json has widths {widths} and attention at {down} and {up[::-1]}, not of our kind"
        )
    net: Config = {
        "channels": facts.infer("channels", widths[0], "config.json"),
        "multipliers": facts.infer("multipliers", [w // widths[0] for w in widths], "config.json"),
        "blocks": facts.infer("blocks", unet.get("layers_per_block", 2), "config.json"),
        "attention": facts.infer("attention", [k for k, there in enumerate(down) if there], "config.json"),
        "attention_up": "last" if ve else "every",
        "head_width": unet.get("attention_head_dim", 8) or 0,
        "noise": "fourier" if ve else "positional",
        "noise_scale": 1.0,
        "fir": ve,
        "block": "biggan" if ve else "ddpm",
        "progressive_input": "input_skip" if ve else "none",
        "progressive_output": "output_skip" if ve else "none",
        "rescale": ve,
        "resample_pad": "end" if ve else _pad(unet),
        "norm_eps": unet.get("norm_eps", 1e-5),
        "dropout": float(unet.get("dropout", 0.0)),
    }
    if unet.get("num_class_embeds") is not None:
        size = facts.infer("condition_size", unet["num_class_embeds"], "config.json")
        net |= {"condition": "class", "condition_size": size}
    return {"_target_": "scoresde.nets.NCSNpp", **net, **(_ve_groups(unet, net) if ve else _groups(unet))}


def _pad(unet: Mapping[str, Any]) -> str:
    padding = unet.get("downsample_padding", 1)
    if padding not in _PADS:
        raise InputError(f"file: config.json has downsample_padding {padding!r}; 0 and 1 can be converted")
    return _PADS[padding]


def _attended(types: list[str], names: tuple[str, str]) -> list[bool]:
    for name in types:
        if name not in names:
            raise InputError(f"file: config.json has a block {name}; {names[0]} and {names[1]} can be converted")
    return [name == names[1] for name in types]


def _groups(unet: Mapping[str, Any]) -> Config:
    return {"groups": unet.get("norm_num_groups", 32), "group_width": 1}


def _ve_groups(unet: Mapping[str, Any], net: Config) -> Config:
    """Groups of 4 channels or more, at most 32; that form has 32 in its attention whatever the width."""
    widths = [net["channels"] * m for m in net["multipliers"]]
    narrow = [widths[k] for k in net["attention"] if widths[k] < 128]
    groups, factor = unet.get("norm_num_groups", 32), unet.get("mid_block_scale_factor", 1)
    if narrow or (groups is not None and any(groups != min(w // 4, 32) for w in (widths[0], widths[-1]))):
        raise InputError(f"file: the groups of its norms, for widths {widths}, are not those of NCSN++")
    if not math.isclose(factor, math.sqrt(2), rel_tol=1e-4):
        raise InputError(f"file: config.json has mid_block_scale_factor {factor}; sqrt(2) can be converted")
    return {"groups": 32, "group_width": 4}


def _ddpm_meaning(schedule: Mapping[str, Any], facts: Facts) -> tuple[Config, Config]:
    """The path through the levels of the scheduler, or that of DDPM."""
    if schedule.get("trained_betas") is not None or schedule.get("rescale_betas_zero_snr"):
        raise InputError("file: the scheduler has trained_betas or rescale_betas_zero_snr, which cannot be converted")
    kind = schedule.get("beta_schedule", "linear")
    if kind not in _SCHEDULES:
        raise InputError(f"file: the scheduler has beta_schedule {kind!r}; {', '.join(_SCHEDULES)} can be converted")
    target = schedule.get("prediction_type", "epsilon")
    if target not in _TARGETS:
        raise InputError(f"file: the scheduler has prediction_type {target!r}; {', '.join(_TARGETS)} can be converted")
    levels = schedule.get("num_train_timesteps", 1000)
    rates = {"first": schedule.get("beta_start", 1e-4), "last": schedule.get("beta_end", 0.02)}
    sde = {"schedule": _SCHEDULES[kind], "levels": levels, **rates}
    for key, value in sde.items():
        if schedule:
            facts.infer(key, value, "scheduler_config.json")
        else:
            sde[key] = facts.get(key, value, "DDPM's, there being no scheduler_config.json")
    sde = {"_target_": "scoresde.convert.DiscreteVPSDE", **sde}
    return sde, labelled("time", float(levels - 1), precond=_TARGETS[target])


def _ve_meaning(schedule: Mapping[str, Any], facts: Facts) -> tuple[Config, Config]:
    """The variance exploding SDE, of which the network is told sigma."""
    for key in ("sigma_min", "sigma_max"):
        if key in schedule:
            facts.infer(key, float(schedule[key]), "scheduler_config.json")
    low, high = facts.get("sigma_min", 0.01, "usual"), facts.need("sigma_max", "give sde=ve sde.sigma_max=1348 or so")
    sde = {"_target_": "scoresde.VESDE", "sigma_min": float(low), "sigma_max": float(high)}
    return sde, {**labelled("log_sigma", 1.0), "sigma_data": 0.25}


def all_parts(net: NCSNpp, sines: Form, negated: bool) -> Iterator[Part]:
    """The parts of a network of either form; `negated` for the one whose output is the score times sigma."""
    yield Part("modulation.embed.frequencies", "time_proj.weight" if negated else "frequencies")
    yield from layer("modulation.hidden.0", "time_embedding.linear_1", sines)
    yield from layer("modulation.hidden.1", "time_embedding.linear_2")
    if net.condition.kind == "class":
        yield Part("condition.embed.weight", "class_embedding.weight")
        yield Part("condition.null", "null")
    yield from layer("stem", "conv_in")
    for spot in spots(net):
        yield from _spot(spot, len(net.down), negated)
    if net.head is not None:
        yield from _head("head", "conv_norm_out", "conv_out", negated)


def _spot(spot: Spot, levels: int, negated: bool) -> Iterator[Part]:
    module, path = spot.module, spot.path
    number = spot.level if spot.way == "down" else levels - 1 - spot.level
    here = "mid_block" if spot.way == "middle" else f"{spot.way}_blocks.{number}"
    if isinstance(module, ResidualBlock):
        name = f"resnets.{spot.number}" if spot.role == "block" else f"resnet_{spot.way}"
        yield from _block(spot, module, f"{here}.{name}")
        if isinstance(module.attention, ImageAttention):
            only = negated and spot.way == "up"  # one for the level, behind its last block
            yield from _attention(
                module.attention, f"{path}.attention", f"{here}.attentions.{0 if only else spot.number}"
            )
    elif spot.role == "resample":
        yield from layer(f"{path}.conv", f"{here}.{spot.way}samplers.0.conv")
    elif spot.way == "down":
        yield from layer(f"{path}.conv", f"{here}.skip_conv")
    else:
        ends = ("conv_norm_out", "conv_out") if spot.level == 0 else (f"{here}.skip_norm", f"{here}.skip_conv")
        yield from _head(f"{path}.head", *ends, negated)


def _block(spot: Spot, module: ResidualBlock, name: str) -> Iterator[Part]:
    for same in ("norm1", "conv1", "norm2", "conv2"):
        yield from layer(f"{spot.path}.{same}", f"{name}.{same}")
    yield from layer("modulation.out", f"{name}.time_emb_proj", rows=spot.rows[0])
    if module.skip is not None:
        yield from layer(f"{spot.path}.skip", f"{name}.conv_shortcut")


def _attention(module: ImageAttention, ours: str, theirs: str) -> Iterator[Part]:
    width = module.out.in_features
    yield from layer(f"{ours}.norm", f"{theirs}.group_norm")
    for i, part in enumerate(("to_q", "to_k", "to_v")):
        yield from layer(f"{ours}.qkv", f"{theirs}.{part}", rows=slice(i * width, (i + 1) * width))
    yield from layer(f"{ours}.out", f"{theirs}.to_out.0")


def _head(ours: str, norm: str, conv: str, negated: bool) -> Iterator[Part]:
    form = NEGATED if negated else SAME
    yield from layer(f"{ours}.norm", norm)
    yield from layer(f"{ours}.conv", conv, form, form)
