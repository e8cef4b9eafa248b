"""Diffusion transformers: state dicts of DiT and SiT, and folders of diffusers with a DiTTransformer2DModel.

Facts about these layouts are here and nowhere else (Peebles and Xie 2023, arXiv 2212.09748, and its code).
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from scoresde.convert.config import Allowed, Config, check_allowed, discrete_vp, flow, labelled
from scoresde.convert.files import Source
from scoresde.convert.names import CLASSES, FREQUENCIES, NULL
from scoresde.convert.parts import VARIANCE, Part, Tensors, frequencies, numbers, table
from scoresde.convert.plan import Facts, Given, Layout, Plan
from scoresde.convert.schedulers import Meaning, meaning
from scoresde.errors import refuse
from scoresde.nets.dit import sincos_positions

_HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}  # of the published networks, by their width
_INSIDE = table("attention.qkv=attn.qkv attention.out=attn.proj rise=mlp.fc1 fall=mlp.fc2")
_TABLE = "y_embedder.embedding_table.weight"
_FILE = "file: config.json"
_ALLOWED: Allowed = {"norm_type": ("ada_norm_zero",), "activation_fn": ("gelu-approximate",)}
_ALLOWED |= {"attention_bias": (True,), "norm_elementwise_affine": (False,), "norm_eps": (1e-5, 1e-6)}
_FACEBOOK = table(  # the names of diffusers, in the order in which they are tried
    r"^pos_embed\.proj=x_embedder.proj ^proj_out_1=final_layer.adaLN_modulation.1 ^proj_out_2=final_layer.linear "
    r"^transformer_blocks\.0\.norm1\.emb\.timestep_embedder\.linear_1=t_embedder.mlp.0 "
    r"^transformer_blocks\.0\.norm1\.emb\.timestep_embedder\.linear_2=t_embedder.mlp.2 "
    r"^transformer_blocks\.0\.norm1\.emb\.class_embedder=y_embedder "
    r"^transformer_blocks=blocks norm1\.linear=adaLN_modulation.1 attn1\.to_out\.0=attn.proj "
    r"ff\.net\.0\.proj=mlp.fc1 ff\.net\.2=mlp.fc2"
)


class _Names:
    """The parts of a DiT of so many blocks, of one width."""

    def __init__(self, net: Config, channels: int, sign: float) -> None:
        self._depth, self._width, self._channels, self._sign = net["depth"], net["width"], channels, sign
        self._patch = net["patch"]

    def parts(self, net: Any) -> Iterator[Part]:
        """All parts, in the order of computation."""
        yield Part(FREQUENCIES, "frequencies")
        if CLASSES in net.state_dict():  # the last class of theirs is that of no class
            yield Part(CLASSES, _TABLE, lambda t: t[:-1])
            yield Part(NULL, _TABLE, lambda t: t[-1])
        last, width = 6 * self._depth * self._width, self._width
        for kind in ("weight", "bias"):
            yield Part(f"modulation.hidden.0.{kind}", f"t_embedder.mlp.0.{kind}")
            yield Part(f"modulation.hidden.1.{kind}", f"t_embedder.mlp.2.{kind}")
            yield Part(f"first.{kind}", f"x_embedder.proj.{kind}", lambda t: t.reshape(len(t), -1))
            for i in range(self._depth):
                rows = slice(6 * i * width, 6 * (i + 1) * width)
                yield Part(f"modulation.out.{kind}", f"blocks.{i}.adaLN_modulation.1.{kind}", rows=rows)
                for ours, theirs in _INSIDE.items():
                    yield Part(f"blocks.{i}.{ours}.{kind}", f"blocks.{i}.{theirs}.{kind}")
            rows = slice(last, None)
            yield Part(f"modulation.out.{kind}", f"final_layer.adaLN_modulation.1.{kind}", rows=rows)
            yield Part(f"last.{kind}", f"final_layer.linear.{kind}", self._channels_first)

    def _channels_first(self, t: Tensor) -> Tensor:
        """Rows (row, column, channel) of a patch, of which the first channels are ours as (channel, row, column)."""
        rows = t.reshape(self._patch**2, -1, *t.shape[1:])[:, : self._channels]
        return self._sign * rows.transpose(0, 1).flatten(0, 1)


class DiTs(Layout):
    """State dicts of the original; with a rectified SDE those of SiT, whose data are at the label 1."""

    name = "dit"
    mark = r"x_embedder\.proj\.weight"
    keys = table("num_heads=heads image_size=image_size input_size=image_size")

    def plan(self, source: Source, facts: Facts) -> Plan:
        made = frequencies(128, 0)
        if facts.given.get("sde", Given("", "")).value == "rectifiedsde":
            facts.get("sde", "")
            return _plan(source.raw, facts, Meaning(*flow(-1.0, 1.0), negated=True), made)
        levels = int(facts.get("levels", 1000))
        sde = discrete_vp("linear", levels, 0.1 / levels, 20.0 / levels)
        return _plan(source.raw, facts, Meaning(sde, labelled("time", levels - 1.0)), made)


class DiffusersDiT(Layout):
    """Folders of diffusers, in which every block has a copy of the embeddings."""

    name = "diffusers"

    def matches(self, source: Source) -> bool:
        kind = source.settings.get("unet", {}).get("_class_name")
        return kind in ("DiTTransformer2DModel", "Transformer2DModel")

    def given(self, config: Mapping[str, Any]) -> dict[str, Given]:
        """Nothing: the folder has its own configuration."""
        refuse(bool(config), "config: a folder of diffusers has its own; leave config= out")
        return {}

    def plan(self, source: Source, facts: Facts) -> Plan:
        net = source.settings["unet"]
        check_allowed(net, _ALLOWED, _FILE)
        facts.infer("heads", net["num_attention_heads"], "config.json")
        facts.infer("image_size", net["sample_size"], "config.json")
        renamed = _as_original(source.raw)
        plan = _plan(renamed, facts, meaning(source.settings.get("scheduler", {}), facts, False), frequencies(128, 1))
        plan.prepare = _as_original
        return plan


def _as_original(tensors: Tensors) -> Tensors:
    """The tensors of diffusers by the names of the original.

    Raises:
        InputError: the embeddings of the blocks differ.
    """
    out: Tensors = {}
    for name, tensor in tensors.items():
        if name == "pos_embed.pos_embed":
            continue
        if found := re.match(r"(transformer_blocks)\.\d+\.norm1\.emb\.(.+)", name):
            first = tensors[f"{found[1]}.0.norm1.emb.{found[2]}"]
            refuse(not torch.equal(tensor, first), f"file: {name} differs from that of block 0; all must be the same")
            if tensor is not first:
                continue
        if found := re.match(r"(.+\.attn1\.to_)[qkv](\..+)", name):
            name, tensor = f"{found[1]}qkv{found[2]}", torch.cat([tensors[f"{found[1]}{c}{found[2]}"] for c in "qkv"])
        for theirs, original in _FACEBOOK.items():
            name = re.sub(theirs, original, name)
        out[name.replace("attn1.to_qkv", "attn.qkv")] = tensor
    return out


def _plan(tensors: Tensors, facts: Facts, means: Meaning, made: Tensor) -> Plan:
    weight, source = tensors["x_embedder.proj.weight"], "names and shapes of weights"
    width, channels, patch, _ = weight.shape
    hidden, depth = len(tensors["blocks.0.mlp.fc1.bias"]), len(numbers(tensors, r"blocks\.(\d+)\."))
    values = {"width": width, "patch": patch, "depth": depth, "ratio": hidden / width}
    net = {key: facts.infer(key, value, source) for key, value in values.items()}
    dropped = {}
    if (places := tensors.get("pos_embed")) is not None:
        side = math.isqrt(places.shape[1])
        ours = sincos_positions(side, side, width, torch.zeros(()))
        refuse(not torch.allclose(places[0], ours, atol=1e-5), "file: pos_embed are no sines and cosines of a square")
        facts.infer("image_size", side * patch, "pos_embed")
        dropped["pos_embed"] = "positions are computed"
    size = int(facts.need("image_size", "give size= with the height and width of an image, or config="))
    wanted = "give config= with num_heads"
    net["heads"] = int(facts.get("heads", _HEADS[width]) if width in _HEADS else facts.need("heads", wanted))
    if classes := len(tensors.get(_TABLE, ())):
        net |= {"condition": "class", "condition_size": facts.infer("condition_size", classes - 1, _TABLE)}
    net |= {"_target_": "scoresde.nets.DiT", "noise_scale": 1.0}
    both, kept = len(tensors["final_layer.linear.bias"]) == 2 * channels * patch**2, channels
    if both and not means.negated:
        net["outputs"], means.model["variance"] = 2, facts.infer("variance", "range", "final_layer.linear.bias")
        kept *= 2
    names = _Names(net, kept, -1.0 if means.negated else 1.0)
    plan = Plan(net, means.model, means.sde, (channels, size, size), names, dropped=dropped, notes=[*means.notes])
    plan.dropped |= VARIANCE if both and means.negated else {}  # flow matching takes no reverse steps
    plan.made = {"frequencies": made}
    return plan
