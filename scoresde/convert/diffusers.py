"""Folders of diffusers with a UNet2DModel, in its DDPM form and in its form for NCSN++ (score_sde_ve).

Facts about that layout are here, in `schedulers` and in `export`, and nowhere else. diffusers itself is not needed.
"""

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from scoresde.convert.config import Allowed, Config, check_allowed
from scoresde.convert.files import Source
from scoresde.convert.forms import Form, same, sines_first
from scoresde.convert.names import CLASSES, FREQUENCIES, NULL, Names, Spot
from scoresde.convert.parts import Tensors, frequencies, table
from scoresde.convert.plan import Facts, Given, Layout, Plan, unstored
from scoresde.convert.schedulers import meaning
from scoresde.errors import refuse

_FILE = "file: config.json"
# what a UNet2DModel is where its file does not say it
_DEFAULTS: Config = {"sample_size": None, "in_channels": 3, "out_channels": 3, "layers_per_block": 2}
_DEFAULTS |= {"time_embedding_type": "positional", "flip_sin_to_cos": True, "freq_shift": 0, "dropout": 0.0}
_DEFAULTS |= {"attention_head_dim": 8, "norm_eps": 1e-5, "norm_num_groups": 32, "downsample_padding": 1}
_DEFAULTS |= {"mid_block_scale_factor": 1, "center_input_sample": False, "num_class_embeds": None}
_ALLOWED: Allowed = {"mid_block_type": ("UNetMidBlock2D",), "downsample_type": ("conv",), "upsample_type": ("conv",)}
_ALLOWED |= {"act_fn": ("silu", "swish"), "resnet_time_scale_shift": ("default",), "add_attention": (True,)}
_ALLOWED |= {"class_embed_type": (None,), "attn_norm_num_groups": (None,)}
_ALLOWED_DDPM: Allowed = {"time_embedding_type": ("positional",), "mid_block_scale_factor": (1,)}
_ALLOWED_DDPM |= {"downsample_padding": (1, 0)}
_ALLOWED_VE: Allowed = {"time_embedding_type": ("fourier",)}
_VE = {"attention_up": "last", "noise": "fourier", "block": "biggan", "fir": True, "rescale": True}
_VE |= {"progressive_input": "input_skip", "progressive_output": "output_skip", "resample_pad": "end"}
_VE |= {"groups": 32, "group_width": 4}
_DDPM = {"attention_up": "every", "noise": "positional", "block": "ddpm", "fir": False, "rescale": False}
_DDPM |= {"progressive_input": "none", "progressive_output": "none", "group_width": 1}
_OLD = table("query=to_q key=to_k value=to_v proj_attn=to_out.0")  # names of attention before 0.15
_PLACES = {
    "down step": "{here}.resnet_down",
    "down resample": "{here}.downsamplers.0.conv",
    "down skip": "{here}.skip_conv",
    "up step": "{here}.resnet_up",
    "up resample": "{here}.upsamplers.0.conv",
    "up output": "{here}.skip_norm {here}.skip_conv",
}


class UNetNames(Names):
    """The names of a network with so many levels, in either form."""

    inside = table(
        "norm1=norm1 conv1=conv1 norm2=norm2 conv2=conv2 skip=conv_shortcut modulation=time_emb_proj "
        "attention.norm=group_norm attention.out=to_out.0 attention.qkv=to_q,to_k,to_v"
    )

    def __init__(self, levels: int, features: Form, ve: bool = False, negated: bool = False) -> None:
        self._levels = levels
        self.forms = {"modulation.hidden.0.weight": features, "head.conv": torch.neg if negated else same}
        self.top = table(
            f"{FREQUENCIES}={'time_proj.weight' if ve else 'frequencies'} modulation.hidden.0=time_embedding.linear_1 "
            f"modulation.hidden.1=time_embedding.linear_2 {CLASSES}=class_embedding.weight {NULL}=null "
            "stem=conv_in head.norm=conv_norm_out head.conv=conv_out"
        )
        block = "{here}.resnets.{spot.number} {here}.attentions.{spot.number}"
        # in the form for NCSN++ one attention for the level, behind its last block
        last = "{here}.resnets.{spot.number} {here}.attentions.0" if ve else block
        self.places = {**_PLACES, "down block": block, "middle block": block, "up block": last}

    def numbers(self, spot: Spot) -> Mapping[str, str]:
        up = self._levels - 1 - spot.level
        here = {"down": f"down_blocks.{spot.level}", "middle": "mid_block", "up": f"up_blocks.{up}"}
        return {"here": here[spot.direction]}

    def place(self, spot: Spot) -> tuple[str, str]:
        if (spot.kind, spot.level) == ("output", 0):
            return self.top["head.norm"], self.top["head.conv"]
        return super().place(spot)


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
        unet, schedule = _DEFAULTS | source.settings["unet"], source.settings.get("scheduler", {})
        kind = unet.get("_class_name")
        refuse(kind != "UNet2DModel", f"file: the folder holds a {kind}; a UNet2DModel can be converted")
        ve = "Skip" in str(unet.get("down_block_types"))
        net = _net(unet, facts, ve)
        sde, model, negated, notes = meaning(schedule, facts, ve)
        if unet["center_input_sample"]:
            check_allowed(unet, {} if "gain" in model else {"center_input_sample": (False,)}, _FILE)
            model |= {"gain": 2.0, "centre": 0.5}
        features = same if unet["flip_sin_to_cos"] and not ve else sines_first
        names = UNetNames(len(net["multipliers"]), features, ve, negated)
        shape = (unet["in_channels"], *_size(unet, facts))
        plan = Plan(net, model, sde, shape, names, centered=not ve, notes=[*notes])
        plan.made = unstored(net, frequencies(net["channels"] // 2, unet["freq_shift"]))
        plan.prepare = _renamed
        return plan


def _renamed(tensors: Tensors) -> Tensors:
    """With today's names of attention."""
    old = re.compile(rf"(?<=attentions\.\d\.)({'|'.join(_OLD)})(?=\.)")
    return {old.sub(lambda found: _OLD[found[0]], name): t for name, t in tensors.items()}


def _size(unet: Mapping[str, Any], facts: Facts) -> tuple[int, int]:
    """Height and width of an image."""
    if not unet["sample_size"]:
        size = int(facts.need("image_size", "give size= with the height and width of an image"))
        return size, size
    height, width = np.broadcast_to(unet["sample_size"], 2).tolist()
    facts.infer("image_size", height, "config.json")
    return height, width


def _net(unet: Mapping[str, Any], facts: Facts, ve: bool) -> Config:
    check_allowed(unet, _ALLOWED | (_ALLOWED_VE if ve else _ALLOWED_DDPM), _FILE)
    widths, attention = unet["block_out_channels"], _attention(unet, "Skip" if ve else "")
    classes = unet["num_class_embeds"] or 0
    net = facts.network("config.json", widths[0], widths, unet["layers_per_block"], attention, classes)
    net |= {"_target_": "scoresde.nets.NCSNpp", "dropout": float(unet["dropout"])}
    net |= {"head_width": unet["attention_head_dim"] or 0, "norm_eps": unet["norm_eps"]}
    if ve:
        _check_ve(unet, [widths[k] for k in attention])
        return net | _VE
    pad = {0: "end", 1: "both"}[unet["downsample_padding"]]
    return net | _DDPM | {"resample_pad": pad, "groups": unet["norm_num_groups"]}


def _attention(unet: Mapping[str, Any], kind: str) -> list[int]:
    """The levels that attend.

    Raises:
        InputError: channels or blocks are not those of our network.
    """
    inputs, outputs = unet["in_channels"], unet["out_channels"]
    refuse(inputs != outputs, f"{_FILE} has in_channels {inputs} and out_channels {outputs}, which must be the same")
    down, up = _attended(unet["down_block_types"], f"{kind}Down"), _attended(unet["up_block_types"], f"{kind}Up")
    refuse(down != up[::-1], f"{_FILE} has attention at {down} and {up[::-1]}; both must be the same")
    return list(itertools.compress(itertools.count(), down))


def _attended(types: list[str], kind: str) -> list[bool]:
    """Which blocks attend, of those of one kind."""
    known = {f"{kind}Block2D": False, f"Attn{kind}Block2D": True}
    for name in types:
        refuse(name not in known, f"{_FILE} has a block {name}; {' and '.join(known)} can be converted")
    return [known[name] for name in types]


def _check_ve(unet: Mapping[str, Any], attended: list[int]) -> None:
    """Raise InputError unless it has NCSN++'s factor and groups: of 4 channels or more, at most 32.

    That form of diffusers has 32 groups wherever it attends, whatever the width.
    """
    widths, groups, factor = unet["block_out_channels"], unet["norm_num_groups"], unet["mid_block_scale_factor"]
    differ = any(groups not in (None, min(w // 4, 32)) for w in (widths[0], widths[-1]))
    wrong = differ or min(attended, default=128) < 128
    refuse(wrong, f"file: the groups of its norms, for widths {widths}, are not those of NCSN++")
    rescaled = math.isclose(factor, math.sqrt(2), rel_tol=1e-4)
    refuse(not rescaled, f"{_FILE} has mid_block_scale_factor {factor}; sqrt(2) can be converted")
