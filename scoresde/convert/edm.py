"""State dicts of EDM's networks, SongUNet and DhariwalUNet: modules named by resolution, such as `enc.32x32_conv`.

Facts about that layout are here and nowhere else (Karras et al. 2022, arXiv 2206.00364, and its code).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.convert.facts import Facts, Given
from scoresde.convert.files import Source
from scoresde.convert.parts import NEGATED, SAME, SCALE_AND_SHIFT, SINES_FIRST, Form, Part, Tensors, layer
from scoresde.convert.plan import Config, Plan, labelled
from scoresde.convert.walk import Spot, spots
from scoresde.errors import InputError, require
from scoresde.nets.attention import ImageAttention
from scoresde.nets.blocks import ResidualBlock
from scoresde.nets.skip_unet import SkipUNet

NAME = "edm"
_CONDITION = ("condition.embed.weight", "condition.null")  # ours, of which the file holds the makings
# rows (channel, q k v) become rows (q k v, channel); the heads are the same
_QKV = Form(
    lambda t: t.reshape(-1, 3, *t.shape[1:]).transpose(0, 1).flatten(0, 1),
    lambda t: t.reshape(3, -1, *t.shape[1:]).transpose(0, 1).flatten(0, 1),
)


def matches(source: Source) -> bool:
    """Whether these are the names of that layout."""
    return any(re.match(r"(model\.)?enc\.\d+x\d+_conv\.", name) for name in source.raw)


def given_by(config: Mapping[str, Any]) -> dict[str, Given]:
    """What a configuration says: `precond`, `sigma_data`, or the original's options with `network_kwargs`."""
    options = config.get("network_kwargs", config)
    require(isinstance(options, Mapping), "config network_kwargs", options, "give keys and values")
    found = {
        key: Given(options[key], f"config {key}") for key in ("sigma_data", "dropout", "precond") if key in options
    }
    if "class_name" in options:
        kind = str(options["class_name"]).rpartition(".")[2].removesuffix("Precond").lower()
        found["precond"] = Given(kind, "config network_kwargs.class_name")
    for theirs, ours in (("model_channels", "channels"), ("channel_mult", "multipliers"), ("num_blocks", "blocks")):
        if theirs in options:
            found[ours] = Given(options[theirs], f"config {theirs}")
    return found


def averaged(source: Source) -> Tensors | None:
    """The averages by name, if the file has them beside the raw weights."""
    return source.averages if isinstance(source.averages, dict) else None


def plan(source: Source, facts: Facts) -> Plan:
    """What our network, its SDE and its parts are.

    Raises:
        InputError: something contradicts itself, or is not to be had here.
    """
    if "u" in source.raw and "model.map_layer0.weight" in source.raw:
        raise InputError("file: networks with iDDPM's preconditioning, which rounds noise levels, cannot be converted")
    unused = _unused(source.raw)
    _filter(source.raw, facts)
    tensors = _bare(source.raw, unused)
    adm = "out_norm.weight" in tensors
    size, net = _net(tensors, facts, adm)
    precond = str(facts.get("precond", "edm", "the preconditioning of EDM itself"))
    sde, model = _meaning(precond, float(facts.get("sigma_data", 0.5, "usual")))
    classes = "map_label.weight" in tensors

    def parts(made: nn.Module) -> list[Part]:
        assert isinstance(made, SkipUNet)
        return list(_parts(made, size, adm, classes, precond == "ve"))

    def prepare(given: Tensors) -> Tensors:
        return _made(_bare(given, unused), adm, net["noise"] if not adm else "positional")

    shape = (tensors[f"enc.{size}x{size}_conv.weight"].shape[1], size, size)
    return Plan(net, model, sde, shape, True, parts, prepare, unused)


def _bare(tensors: Mapping[str, Tensor], unused: Mapping[str, str]) -> Tensors:
    """Without what is not used, and without the prefix of the preconditioning."""
    return {k.removeprefix("model."): t for k, t in tensors.items() if k not in unused}


def _unused(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    unused = {k: "a constant" for k in tensors if k.endswith(".resample_filter")}
    unused |= {k: "labels of augmentation are zero in sampling" for k in tensors if k.endswith("map_augment.weight")}
    return unused


def _filter(tensors: Mapping[str, Tensor], facts: Facts) -> None:
    """The filter of resampling, which the file keeps as a constant."""
    kernels = [t for k, t in tensors.items() if k.endswith(".resample_filter")]
    if kernels:
        require(
            len({tuple(k.flatten().tolist()) for k in kernels}) == 1, "resample_filter", "several", "all must be one"
        )
        taps = kernels[0].sum((0, 1, 2)) * (2 if kernels[0].shape[-1] == 2 else 8)
        require(
            taps.tolist() in ([1, 1], [1, 3, 3, 1]), "resample_filter", taps.tolist(), "only [1, 1] and [1, 3, 3, 1]"
        )
        facts.infer("fir", len(taps) == 4, "resample_filter")


def _net(tensors: Tensors, facts: Facts, adm: bool) -> tuple[int, Config]:
    """The size of images and the configuration of our network."""
    found = [re.match(r"enc\.(\d+)x\1_(\w+?)(\d*)\.", name) for name in tensors]
    sizes = sorted({int(m[1]) for m in found if m}, reverse=True)
    size = facts.infer("image_size", sizes[0], "the names of modules")
    channels, pictures = tensors["map_layer0.weight"].shape[0] // 4, tensors[f"enc.{size}x{size}_conv.weight"].shape[1]
    facts.infer("pictures", pictures, f"enc.{size}x{size}_conv.weight")
    blocks = len({m[3] for m in found if m and int(m[1]) == size and m[2] == "block"})
    widths = [tensors[f"enc.{n}x{n}_block0.conv0.weight"].shape[0] for n in sizes]
    attention = [k for k, n in enumerate(sizes) if f"enc.{n}x{n}_block0.qkv.weight" in tensors]
    net: Config = {
        "channels": facts.infer("channels", channels, "map_layer0.weight"),
        "multipliers": facts.infer("multipliers", [w // channels for w in widths], "blockN.conv0.weight"),
        "blocks": facts.infer("blocks", blocks, "the names of modules"),
        "attention": facts.infer("attention", attention, "the names of modules"),
        "noise_scale": 1.0,
        "dropout": float(facts.get("dropout", 0.1, "usual; for training only")),
        **_condition(tensors, facts, adm),
    }
    if adm:
        middle = [*(widths[k] for k in attention), widths[-1]]
        require(not any(w % 64 for w in middle), "channels", channels, "attention here has heads of 64 channels")
        return size, {"_target_": "scoresde.nets.ADM", **net, "head_width": 64, "group_width": 4}
    return size, {"_target_": "scoresde.nets.NCSNpp", **net, **_song(tensors, facts, size, len(sizes))}


def _condition(tensors: Tensors, facts: Facts, adm: bool) -> Config:
    if "map_label.weight" not in tensors:
        return {}
    size = facts.infer("condition_size", tensors["map_label.weight"].shape[1], "map_label.weight")
    return {"condition": "class", "condition_size": size, **({} if adm else {"condition_layer": "first"})}


def _song(tensors: Tensors, facts: Facts, size: int, levels: int) -> Config:
    """What a SongUNet is besides; all of it shows in names and shapes, but for the filter, a constant of the file."""
    sides = {"_aux_residual.": "residual", "_aux_skip.": "input_skip"}
    side = next((kind for name, kind in sides.items() if any(name in k for k in tensors)), "none")
    heads = sum(bool(re.match(r"dec\.\d+x\d+_aux_norm\.weight", k)) for k in tensors)
    return {
        "noise": facts.infer("noise", "fourier" if "map_noise.freqs" in tensors else "positional", "map_noise.freqs"),
        "noise_shift": 0.0,
        "block": "biggan",
        "rescale": True,
        "attention_up": "last",
        "fir": facts.rows["fir"].value
        if "fir" in facts.rows
        else bool(facts.get("fir", False, "no filter in the file")),
        "progressive_input": facts.infer("progressive_input", side, "the names of modules"),
        "progressive_output": facts.infer("progressive_output", "output_skip" if heads > 1 else "none", "aux_norm"),
        "group_width": 4,
    }


def _meaning(precond: str, sigma_data: float) -> tuple[Config, Config]:
    """The SDE and the model around the network."""
    if precond == "edm":
        model = {"_target_": "scoresde.ScoreModel", "precond": "edm", "sigma_data": sigma_data}
        return {"_target_": "scoresde.EDMSDE", "sigma_min": 0.002, "sigma_max": 80.0}, model
    if precond == "vp":
        return {"_target_": "scoresde.VPSDE", "beta_min": 0.1, "beta_max": 20.0}, labelled("time", 999.0)
    require(precond == "ve", "precond", precond, "give edm, vp or ve")
    shift = -float(torch.log(torch.tensor(2.0, dtype=torch.float64)))  # they are told half of sigma
    return {"_target_": "scoresde.VESDE", "sigma_min": 0.02, "sigma_max": 100.0}, labelled("log_sigma", 1.0, shift)


def _made(tensors: Tensors, adm: bool, noise: str) -> Tensors:
    """Frequencies that are nowhere stored, and classes as this project adds them."""
    features = tensors["map_layer0.weight"].shape[1]
    if noise == "positional":
        steps = torch.arange(features // 2, dtype=torch.float32)  # in the precision in which they were used
        tensors["map_noise.freqs"] = (1 / 10000) ** (steps / (features // 2 - (0 if adm else 1)))
    if "map_label.weight" in tensors:
        classes, none = tensors.pop("map_label.weight").double(), torch.zeros(features, dtype=torch.float64)
        if adm:
            vectors, null = classes.T, torch.zeros(len(classes), dtype=torch.float64)
        else:  # added to the features below the first layer; here to its result
            first = tensors["map_layer0.weight"].double()
            null = first @ tensors.pop("map_label.bias", none).double()
            vectors = (first @ classes).T * classes.shape[1] ** 0.5 + null
        tensors |= dict(zip(_CONDITION, (vectors, null), strict=True))
    return tensors


def _parts(net: SkipUNet, size: int, adm: bool, classes: bool, negated: bool) -> Iterator[Part]:
    yield Part("modulation.embed.frequencies", "map_noise.freqs")
    yield from layer("modulation.hidden.0", "map_layer0", SAME if adm else SINES_FIRST)
    yield from layer("modulation.hidden.1", "map_layer1")
    for name in _CONDITION if classes else ():
        yield Part(name, name)
    yield from layer("stem", f"enc.{size}x{size}_conv")
    for spot in spots(net):
        yield from _spot(spot, _name(spot, size), SCALE_AND_SHIFT if adm else SAME, negated)
    if net.head is not None:
        norm, conv = ("out_norm", "out_conv") if adm else (f"dec.{size}x{size}_aux_{end}" for end in ("norm", "conv"))
        yield from _head("head", norm, conv, negated)


def _name(spot: Spot, size: int) -> str:
    """A module's name without what kind of side it is; a step belongs to the level it leads to."""
    if spot.way == "middle":
        n = size >> spot.level
        return f"dec.{n}x{n}_in{spot.number}"
    part = "enc" if spot.way == "down" else "dec"
    if spot.role == "block":
        n = size >> spot.level
        return f"{part}.{n}x{n}_block{spot.number}"
    if spot.role == "resample":
        n = size >> (spot.level + (1 if spot.way == "down" else -1))
        return f"{part}.{n}x{n}_{spot.way}"
    n = size >> (spot.level + (1 if spot.way == "down" else 0))
    return f"{part}.{n}x{n}_aux"


def _spot(spot: Spot, name: str, affine: Form, negated: bool) -> Iterator[Part]:
    module, path = spot.module, spot.path
    if isinstance(module, ResidualBlock):
        for ours, theirs in (("norm1", "norm0"), ("conv1", "conv0"), ("norm2", "norm1"), ("conv2", "conv1")):
            yield from layer(f"{path}.{ours}", f"{name}.{theirs}")
        rows = slice(spot.rows[0].start, spot.rows[-1].stop)
        yield from layer("modulation.out", f"{name}.affine", SAME, affine, rows)
        if module.skip is not None:
            yield from layer(f"{path}.skip", f"{name}.skip")
        if isinstance(module.attention, ImageAttention):
            yield from layer(f"{path}.attention.norm", f"{name}.norm2")
            yield from layer(f"{path}.attention.qkv", f"{name}.qkv", _QKV, _QKV)
            yield from layer(f"{path}.attention.out", f"{name}.proj")
    elif spot.way == "up":
        yield from _head(f"{path}.head", f"{name}_norm", f"{name}_conv", negated)
    elif hasattr(module, "halve"):
        yield from layer(f"{path}.halve.conv", f"{name}_residual")
    else:
        yield from layer(f"{path}.conv", f"{name}_skip")


def _head(ours: str, norm: str, conv: str, negated: bool) -> Iterator[Part]:
    form = NEGATED if negated else SAME
    yield from layer(f"{ours}.norm", norm)
    yield from layer(f"{ours}.conv", conv, form, form)
