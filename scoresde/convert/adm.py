"""State dicts of guided-diffusion: ADM as `input_blocks.N`, `middle_block.N`, `output_blocks.N`.

Facts about that layout are here and nowhere else (Dhariwal and Nichol 2021, arXiv 2105.05233, and its code).
"""

from collections.abc import Mapping
from functools import partial

import torch

from scoresde.convert.config import Config, discrete_vp, flow, labelled
from scoresde.convert.files import Source
from scoresde.convert.forms import by_heads, interleaved, same, scale_and_shift
from scoresde.convert.names import CLASSES, FREQUENCIES, NULL, Names, Spot
from scoresde.convert.parts import VARIANCE, Tensors, frequencies, numbers, table, without_variance
from scoresde.convert.plan import Facts, Given, Layout, Plan, unstored
from scoresde.errors import InputError

_NAMED = "the names of modules"
_PLACES = {
    "down block": "input_blocks.{input}.0 input_blocks.{input}.1",
    "down step": "input_blocks.{input}.0",
    "down resample": "input_blocks.{input}.0.op",
    "middle block": "middle_block.{middle} middle_block.1",
    "up block": "output_blocks.{output}.0 output_blocks.{output}.1",
    "up step": "output_blocks.{output}.{last}",  # the last piece of the block in front of it
    "up resample": "output_blocks.{output}.{last}.conv",
}


class _Names(Names):
    """Blocks are numbered in the down path and in the up path."""

    top = table(
        f"{FREQUENCIES}=frequencies modulation.hidden.0=time_embed.0 modulation.hidden.1=time_embed.2 "
        f"{CLASSES}=label_emb.weight {NULL}=null stem=input_blocks.0.0 head.norm=out.0 head.conv=out.2"
    )
    places = _PLACES
    inside = table(
        "norm1=in_layers.0 conv1=in_layers.2 norm2=out_layers.0 conv2=out_layers.3 skip=skip_connection "
        "modulation=emb_layers.1 attention.norm=norm attention.out=proj_out attention.qkv=qkv"
    )

    def __init__(self, net: Config, legacy: bool, negated: bool) -> None:
        self._net = net
        self.forms = {"head.conv": torch.neg if negated else same}
        self.forms |= {"modulation.out.bias": scale_and_shift} if net["scale_shift"] else {}
        if legacy and net["heads"]:
            self.forms |= {"attention.qkv": by_heads(net["heads"])}
        elif legacy and net["head_width"]:
            self.forms |= {"attention.qkv": interleaved(net["head_width"])}

    def numbers(self, spot: Spot) -> Mapping[str, int]:
        blocks, levels = self._net["blocks"], len(self._net["multipliers"])
        number = spot.number if spot.kind == "block" else blocks
        return {
            "input": spot.level * (blocks + 1) + number + 1,
            "middle": 2 * spot.number,
            "output": (levels - 1 - spot.level) * (blocks + 1) + number,
            "last": 1 + (spot.level in self._net["attention"]),
        }


class ADM(Layout):
    """See the module."""

    name = "adm"
    mark = r"input_blocks\.0\.0\.weight"
    keys = table(
        "image_size=image_size num_channels=channels num_res_blocks=blocks num_head_channels=head_width "
        "num_heads=heads use_new_attention_order=new_attention_order noise_schedule=schedule dropout=dropout "
        "diffusion_steps=levels rescale_timesteps=rescale_timesteps predict_xstart=predict_xstart "
        "resblock_updown=resample_blocks"
    )
    unset = (None, -1)

    def plan(self, source: Source, facts: Facts) -> Plan:
        tensors = source.raw
        net = _net(tensors, facts)
        inputs, outputs = tensors["input_blocks.0.0.weight"].shape[1], tensors["out.2.weight"].shape[0]
        if outputs not in (inputs, 2 * inputs):
            raise InputError(f"file: {inputs} channels in and {outputs} out; networks for upsampling are not supported")
        facts.infer("image_channels", inputs, "input_blocks.0.0.weight")
        size = int(facts.need("image_size", "give size= with the height and width of an image, or config="))
        sde, model, negated = _meaning(facts)
        names = _Names(net, not facts.get("new_attention_order", False), negated)
        plan = Plan(net, model, sde, (inputs, size, size), names)
        plan.made = unstored(net, frequencies(net["channels"] // 2, 0))
        if outputs > inputs and not negated:
            net["outputs"], model["variance"] = 2, facts.infer("variance", "range", "out.2.weight")
        elif outputs > inputs:  # flow matching takes no reverse steps
            plan.prepare = partial(without_variance, outputs=inputs, last=r"^out\.2\.")
            plan.dropped |= VARIANCE
        if "condition" in net:
            plan.notes.append("no class was trained as none: guidance by classes needs a second network")
        return plan


def _net(tensors: Tensors, facts: Facts) -> Config:
    channels = tensors["time_embed.0.weight"].shape[1]
    last = numbers(tensors, r"output_blocks\.(\d+)\.")[-1]
    ups = numbers(tensors, r"output_blocks\.(\d+)\.[12]\.(in_layers|conv)\.")
    blocks = ups[0] if ups else last
    firsts = range(last - blocks, -1, -(blocks + 1))  # the first block of each level, finest first
    widths = [tensors[f"output_blocks.{i}.0.in_layers.2.weight"].shape[0] for i in firsts]
    attention = [k for k, i in enumerate(firsts) if f"output_blocks.{i}.1.qkv.weight" in tensors]
    classes = len(tensors.get("label_emb.weight", ()))
    net = facts.network("names and shapes of weights", channels, widths, blocks, attention, classes)
    net |= {"_target_": "scoresde.nets.ADM", "dropout": float(facts.get("dropout", 0.0))}
    scaled = tensors["middle_block.0.emb_layers.1.weight"].shape[0] == 2 * widths[-1]
    net["scale_shift"] = facts.infer("scale_shift", scaled, "middle_block.0.emb_layers.1.weight")
    net |= _heads(facts)
    within = bool(numbers(tensors, r"output_blocks\.(\d+)\.[12]\.in_layers"))
    net["resample_blocks"] = facts.infer("resample_blocks", within, _NAMED) if ups else True
    return net


def _heads(facts: Facts) -> Config:
    """The heads, which cannot be inferred: of so many channels, or so many."""
    if "heads" in facts.given and "head_width" not in facts.given:
        return {"heads": int(facts.get("heads", 1)), "head_width": 0}
    wanted = "give config= with num_head_channels or num_heads, or model.net.head_width="
    return {"heads": 0, "head_width": int(facts.need("head_width", wanted))}


def _meaning(facts: Facts) -> tuple[Config, Config, bool]:
    """The SDE, the model around the network, and whether the output has the other sign.

    That is the original's levels or, where the SDE is rectified, flow matching with data at the label 1 (torchcfm).
    """
    if facts.given.get("sde", Given("", "")).value == "rectifiedsde":
        facts.get("sde", "")
        return *flow(-1.0, 1.0), True
    levels = int(facts.get("levels", 1000))
    sde = discrete_vp(str(facts.get("schedule", "linear")), levels, 0.1 / levels, 20.0 / levels)
    per_level = 1000 / levels if facts.get("rescale_timesteps", False) else 1.0
    precond = "x0" if facts.get("predict_xstart", False) else "eps"
    return sde, labelled("time", per_level * (levels - 1), precond=precond), False
