"""State dicts of guided-diffusion: ADM as `input_blocks.N`, `middle_block.N`, `output_blocks.N`.

Facts about that layout are here and nowhere else (Dhariwal and Nichol 2021, arXiv 2105.05233, and its code).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.convert.facts import Facts, Given
from scoresde.convert.files import Source
from scoresde.convert.parts import SAME, SCALE_AND_SHIFT, Form, Part, Tensors, layer
from scoresde.convert.plan import Config, Plan, labelled
from scoresde.convert.walk import Spot, spots
from scoresde.errors import InputError
from scoresde.nets import ADM
from scoresde.nets.attention import ImageAttention
from scoresde.nets.blocks import ResidualBlock

NAME = "adm"
_FLAGS = {
    "image_size": "image_size",
    "num_channels": "channels",
    "num_res_blocks": "blocks",
    "num_head_channels": "head_width",
    "num_heads": "heads",
    "use_new_attention_order": "new_attention_order",
    "noise_schedule": "schedule",
    "diffusion_steps": "levels",
    "rescale_timesteps": "rescale_timesteps",
    "predict_xstart": "predict_xstart",
    "dropout": "dropout",
    "resblock_updown": "resample_blocks",
}


def matches(source: Source) -> bool:
    """Whether these are the names of that layout."""
    return "input_blocks.0.0.weight" in source.raw and "time_embed.0.weight" in source.raw


def given_by(config: Mapping[str, Any]) -> dict[str, Given]:
    """What the original's flags say, by our names; those at -1 are not set."""
    return {
        ours: Given(config[theirs], f"config {theirs}")
        for theirs, ours in _FLAGS.items()
        if config.get(theirs) is not None and config[theirs] != -1
    }


def averaged(source: Source) -> Tensors | None:
    """The averages by name, if the file has them beside the raw weights; the original keeps them in other files."""
    return source.averages if isinstance(source.averages, dict) else None


def plan(source: Source, facts: Facts) -> Plan:
    """What our network, its SDE and its parts are.

    Raises:
        InputError: something is not known, contradicts itself, or is not to be had here.
    """
    tensors = source.raw
    net = _net(tensors, facts)
    pictures, outputs = tensors["input_blocks.0.0.weight"].shape[1], tensors["out.2.weight"].shape[0]
    if outputs not in (pictures, 2 * pictures):
        raise InputError(
            f"file: {pictures} channels go in and {outputs} come out; networks of low images are not converted"
        )
    facts.infer("pictures", pictures, "input_blocks.0.0.weight")
    size = int(facts.need("image_size", "give size= with the height and width of an image, or config="))
    legacy = not facts.get("new_attention_order", False, "usual")
    sde, model = _meaning(facts)
    classes = "label_emb.weight" in tensors

    def parts(made: nn.Module) -> list[Part]:
        assert isinstance(made, ADM)
        return list(_parts(made, classes, legacy))

    def prepare(given: Tensors) -> Tensors:
        half = net["channels"] // 2
        made = {k: t[:pictures] if k in ("out.2.weight", "out.2.bias") else t for k, t in given.items()}
        steps = torch.arange(half, dtype=torch.float32)  # in the precision in which they were used
        made["frequencies"] = torch.exp(-torch.log(torch.tensor(10000.0)).item() * steps / half)
        if classes:
            made["null"] = torch.zeros(4 * net["channels"])
        return made

    learned = {"out.2, second half": "what it says of the variance is not used"} if outputs > pictures else {}
    notes = ["no class was trained as none: guidance by classes needs a second network"] if classes else []
    return Plan(net, model, sde, (pictures, size, size), True, parts, prepare, learned, notes)


def _net(tensors: Tensors, facts: Facts) -> Config:
    channels = facts.infer("channels", tensors["time_embed.0.weight"].shape[1], "time_embed.0.weight")
    last = max(int(m[1]) for m in (re.match(r"output_blocks\.(\d+)\.", k) for k in tensors) if m)
    ups = sorted(
        {int(m[1]) for m in (re.match(r"output_blocks\.(\d+)\.[12]\.(in_layers|conv)\.", k) for k in tensors) if m}
    )
    count = ups[0] if ups else last
    levels = (last + 1) // (count + 1)
    firsts = [(levels - 1 - k) * (count + 1) for k in range(levels)]
    widths = [tensors[f"output_blocks.{i}.0.in_layers.2.weight"].shape[0] for i in firsts]
    attention = [k for k, i in enumerate(firsts) if f"output_blocks.{i}.1.qkv.weight" in tensors]
    rows = tensors["middle_block.0.emb_layers.1.weight"].shape[0]
    if rows != 2 * widths[-1]:
        raise InputError("file: a network with use_scale_shift_norm=False is not to be had here")
    within = any(re.match(r"output_blocks\.\d+\.[12]\.in_layers", k) for k in tensors)
    net: Config = {
        "_target_": "scoresde.nets.ADM",
        "channels": channels,
        "multipliers": facts.infer("multipliers", [w // channels for w in widths], "output_blocks.N.0.in_layers.2"),
        "blocks": facts.infer("blocks", count, "the names of modules"),
        "attention": facts.infer("attention", attention, "qkv"),
        "noise_scale": 1.0,
        "head_width": _head_width(facts, {*(widths[k] for k in attention), widths[-1]}),
        "resample_blocks": facts.infer("resample_blocks", within, "the names of modules") if ups else True,
        "dropout": float(facts.get("dropout", 0.0, "usual; for training only")),
    }
    if "label_emb.weight" in tensors:
        size = facts.infer("condition_size", len(tensors["label_emb.weight"]), "label_emb.weight")
        net |= {"condition": "class", "condition_size": size}
    return net


def _head_width(facts: Facts, widths: set[int]) -> int:
    """Channels of a head, of which no shape tells."""
    if facts.given("heads") is None or facts.given("head_width") is not None:
        wanted = "give config= with num_head_channels or num_heads, or model.net.head_width="
        return int(facts.need("head_width", wanted))
    heads = int(facts.get("heads", 1, "usual"))
    if heads > 1 and len(widths) > 1:
        raise InputError(
            f"config num_heads: {heads} heads of several widths are not to be had here, where all have one"
        )
    return 0 if heads == 1 else next(iter(widths)) // heads


def _meaning(facts: Facts) -> tuple[Config, Config]:
    """The SDE through the original's levels, and the model around the network."""
    levels = int(facts.get("levels", 1000, "usual"))
    schedule = str(facts.get("schedule", "linear", "usual"))
    rates = {"schedule": schedule, "levels": levels, "first": 0.1 / levels, "last": 20.0 / levels}
    per_level = 1000 / levels if facts.get("rescale_timesteps", False, "usual") else 1.0
    x0 = bool(facts.get("predict_xstart", False, "usual"))
    model = labelled("time", per_level * (levels - 1), precond="x0" if x0 else "eps")
    return {"_target_": "scoresde.convert.DiscreteVPSDE", **rates}, model


def _parts(net: ADM, classes: bool, legacy: bool) -> Iterator[Part]:
    yield Part("modulation.embed.frequencies", "frequencies")
    yield from layer("modulation.hidden.0", "time_embed.0")
    yield from layer("modulation.hidden.1", "time_embed.2")
    if classes:
        yield Part("condition.embed.weight", "label_emb.weight")
        yield Part("condition.null", "null")
    yield from layer("stem", "input_blocks.0.0")
    numbers = {"down": 1, "up": 0}
    for spot in spots(net):
        if spot.way == "middle":
            names = (f"middle_block.{2 * spot.number}", "middle_block.1")
        elif spot.way == "up" and spot.role == "resample":  # the last piece of the block before it
            before = f"output_blocks.{numbers['up'] - 1}"
            attended = any(spot.path.startswith(s.path.partition(".blocks")[0] + ".") and s.attends for s in spots(net))
            names = (f"{before}.{1 + attended}", "")
        else:
            here = f"{'input' if spot.way == 'down' else 'output'}_blocks.{numbers[spot.way]}"
            names, numbers[spot.way] = (f"{here}.0", f"{here}.1"), numbers[spot.way] + 1
        yield from _spot(spot, *names, legacy)
    yield from layer("head.norm", "out.0")
    yield from layer("head.conv", "out.2")


def _spot(spot: Spot, name: str, attention: str, legacy: bool) -> Iterator[Part]:
    module, path = spot.module, spot.path
    if not isinstance(module, ResidualBlock):
        yield from layer(f"{path}.conv", f"{name}.{'op' if spot.way == 'down' else 'conv'}")
        return
    pairs = (("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3"))
    for ours, theirs in pairs:
        yield from layer(f"{path}.{ours}", f"{name}.{theirs}")
    rows = slice(spot.rows[0].start, spot.rows[-1].stop)
    yield from layer("modulation.out", f"{name}.emb_layers.1", SAME, SCALE_AND_SHIFT, rows)
    if module.skip is not None:
        yield from layer(f"{path}.skip", f"{name}.skip_connection")
    if isinstance(module.attention, ImageAttention):
        form = _qkv(module.attention.heads) if legacy else SAME
        yield from layer(f"{path}.attention.norm", f"{attention}.norm")
        yield from layer(f"{path}.attention.qkv", f"{attention}.qkv", form, form)
        yield from layer(f"{path}.attention.out", f"{attention}.proj_out")


def _qkv(heads: int) -> Form:
    """Rows (head, q k v, channel) become rows (q k v, head, channel)."""

    def turned(t: Tensor, first: int, second: int) -> Tensor:
        return t.reshape(first, second, -1, *t.shape[1:]).transpose(0, 1).flatten(0, 2)

    return Form(lambda t: turned(t, heads, 3), lambda t: turned(t, 3, heads))
