"""State dicts of guided-diffusion: ADM as `input_blocks.N`, `middle_block.N`, `output_blocks.N`.

Facts about that layout are here and nowhere else (Dhariwal and Nichol 2021, arXiv 2105.05233, and its code).
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scoresde.convert.files import Source
from scoresde.convert.names import CLASSES, FREQUENCIES, NULL, Names, Spot
from scoresde.convert.parts import SAME, SCALE_AND_SHIFT, Form, Tensors, frequencies, table
from scoresde.convert.plan import Config, Facts, Given, Layout, Plan, arguments, discrete_vp, labelled
from scoresde.errors import InputError
from scoresde.nets.layers import ImageAttention

_NAMED = "the names of modules"


class _Names(Names):
    """Blocks are numbered in the down path and in the up path."""

    top = table(
        f"{FREQUENCIES}=frequencies modulation.hidden.0=time_embed.0 modulation.hidden.1=time_embed.2 "
        f"{CLASSES}=label_emb.weight {NULL}=null stem=input_blocks.0.0 head.norm=out.0 head.conv=out.2"
    )
    block = table(
        "norm1=in_layers.0 conv1=in_layers.2 norm2=out_layers.0 conv2=out_layers.3 "
        "skip=skip_connection modulation=emb_layers.1"
    )
    attention = table("norm=norm out=proj_out")
    affine = SCALE_AND_SHIFT

    def __init__(self, legacy: bool) -> None:
        self._legacy, self._next, self._attended = legacy, {"down": 1, "up": 0}, False

    def place(self, spot: Spot) -> tuple[str, str]:
        if spot.direction == "middle":
            return f"middle_block.{2 * spot.number}", "middle_block.1"
        if spot.role == "resample" and spot.direction == "up":  # the last piece of the block in front of it
            name = f"output_blocks.{self._next['up'] - 1}.{1 + self._attended}"
            return name if hasattr(spot.module, "sizes") else f"{name}.conv", ""
        here = f"{'input' if spot.direction == 'down' else 'output'}_blocks.{self._next[spot.direction]}"
        self._next[spot.direction] += 1
        self._attended = spot.attends
        return f"{here}.0" if hasattr(spot.module, "sizes") else f"{here}.0.op", f"{here}.1"

    def of_qkv(self, module: ImageAttention) -> Form:
        return _qkv(module.heads) if self._legacy else SAME


class ADM(Layout):
    """See the module."""

    name = "adm"
    keys = table(
        "image_size=image_size num_channels=channels num_res_blocks=blocks num_head_channels=head_width "
        "num_heads=heads use_new_attention_order=new_attention_order noise_schedule=schedule dropout=dropout "
        "diffusion_steps=levels rescale_timesteps=rescale_timesteps predict_xstart=predict_xstart "
        "resblock_updown=resample_blocks"
    )

    def matches(self, source: Source) -> bool:
        return "input_blocks.0.0.weight" in source.raw and "time_embed.0.weight" in source.raw

    def given(self, config: Mapping[str, Any]) -> dict[str, Given]:
        """From the original's flags; those at -1 are not set."""
        return {key: given for key, given in super().given(config).items() if given.value != -1}

    def plan(self, source: Source, facts: Facts) -> Plan:
        tensors = source.raw
        net = _net(tensors, facts)
        inputs, outputs = tensors["input_blocks.0.0.weight"].shape[1], tensors["out.2.weight"].shape[0]
        if outputs not in (inputs, 2 * inputs):
            raise InputError(f"file: {inputs} channels in and {outputs} out; networks for upsampling are not supported")
        facts.infer("image_channels", inputs, "input_blocks.0.0.weight")
        size = int(facts.need("image_size", "give size= with the height and width of an image, or config="))
        names = _Names(not facts.get("new_attention_order", False))
        sde, model = _meaning(facts)
        prepare = partial(_prepared, image_channels=inputs, channels=net["channels"])
        learned = {"out.2, second half": "the predicted variance is not used"} if outputs > inputs else {}
        notes = ["no class was trained as none: guidance by classes needs a second network"]
        notes = notes if "condition" in net else []
        return Plan(net, model, sde, (inputs, size, size), names, True, prepare, learned, notes)


def _prepared(tensors: Tensors, image_channels: int, channels: int) -> Tensors:
    """With the frequencies and the class of no class, which no file stores, and without a predicted variance."""
    made = {k: t[:image_channels] if k in ("out.2.weight", "out.2.bias") else t for k, t in tensors.items()}
    made["frequencies"] = frequencies(channels // 2, 0)
    if "label_emb.weight" in made:
        made["null"] = torch.zeros(4 * channels)
    return made


def _numbers(names: Iterable[str], pattern: str) -> list[int]:
    """The numbers in names that begin with a pattern, without repetition, rising."""
    return sorted({int(found[1]) for name in names if (found := re.match(pattern, name))})


def _net(tensors: Tensors, facts: Facts) -> Config:
    channels = tensors["time_embed.0.weight"].shape[1]
    last = _numbers(tensors, r"output_blocks\.(\d+)\.")[-1]
    ups = _numbers(tensors, r"output_blocks\.(\d+)\.[12]\.(in_layers|conv)\.")
    blocks = ups[0] if ups else last
    firsts = range(last - blocks, -1, -(blocks + 1))  # the first block of each level, finest first
    widths = [tensors[f"output_blocks.{i}.0.in_layers.2.weight"].shape[0] for i in firsts]
    attention = [k for k, i in enumerate(firsts) if f"output_blocks.{i}.1.qkv.weight" in tensors]
    if tensors["middle_block.0.emb_layers.1.weight"].shape[0] != 2 * widths[-1]:
        raise InputError("file: a network with use_scale_shift_norm=False is not supported")
    within = bool(_numbers(tensors, r"output_blocks\.(\d+)\.[12]\.in_layers"))
    classes = len(tensors["label_emb.weight"]) if "label_emb.weight" in tensors else None
    dropout = float(facts.get("dropout", 0.0))
    net = arguments(facts, "names and shapes of weights", channels, widths, blocks, attention, classes, dropout)
    net["_target_"] = "scoresde.nets.ADM"
    net["head_width"] = _head_width(facts, {*(widths[k] for k in attention), widths[-1]})
    net["resample_blocks"] = facts.infer("resample_blocks", within, _NAMED) if ups else True
    return net


def _head_width(facts: Facts, widths: set[int]) -> int:
    """Channels of a head, which cannot be inferred."""
    if "heads" not in facts.given or "head_width" in facts.given:
        wanted = "give config= with num_head_channels or num_heads, or model.net.head_width="
        return int(facts.need("head_width", wanted))
    heads = int(facts.get("heads", 1))
    if heads > 1 and len(widths) > 1:
        raise InputError(f"config num_heads: {heads} heads of several widths are not supported; all must have one")
    return 0 if heads == 1 else next(iter(widths)) // heads


def _meaning(facts: Facts) -> tuple[Config, Config]:
    """The SDE through the original's levels, and the model around the network."""
    levels = int(facts.get("levels", 1000))
    sde = discrete_vp(str(facts.get("schedule", "linear")), levels, 0.1 / levels, 20.0 / levels)
    per_level = 1000 / levels if facts.get("rescale_timesteps", False) else 1.0
    precond = "x0" if facts.get("predict_xstart", False) else "eps"
    return sde, labelled("time", per_level * (levels - 1), precond=precond)


def _qkv(heads: int) -> Form:
    """Rows (head, q k v, channel) become rows (q k v, head, channel)."""

    def turned(t: Tensor, first: int, second: int) -> Tensor:
        return t.reshape(first, second, -1, *t.shape[1:]).transpose(0, 1).flatten(0, 2)

    return Form(lambda t: turned(t, heads, 3), lambda t: turned(t, 3, heads))
