"""State dicts of EDM's networks, SongUNet and DhariwalUNet: modules named by resolution, such as `enc.32x32_conv`.

Facts about that layout are here and nowhere else (Karras et al. 2022, arXiv 2206.00364, and its code).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scoresde.convert.config import Config, edm, labelled
from scoresde.convert.files import Source
from scoresde.convert.forms import interleaved, same, scale_and_shift, sines_first
from scoresde.convert.names import CLASSES, FREQUENCIES, NULL, Names, Spot
from scoresde.convert.parts import VARIANCE, Tensors, numbers, table, without_variance
from scoresde.convert.plan import Facts, Given, Layout, Plan, unstored
from scoresde.errors import require

_DROPPED = {".resample_filter": "a constant", "map_augment.weight": "labels of augmentation are zero in sampling"}
_ADM_NET = {"_target_": "scoresde.nets.ADM", "head_width": 64, "group_width": 4}
_SONG_NET = {"_target_": "scoresde.nets.NCSNpp", "noise_shift": 0.0, "block": "biggan", "rescale": True}
_SONG_NET |= {"attention_up": "last", "group_width": 4}
_HEAD = r"(out|_aux)_conv\."
_NAMED = "the names of modules"
_PLACES = {
    "down block": "enc.{here}_block{spot.number} enc.{here}_block{spot.number}",
    "down step": "enc.{coarser}_down",
    "down residual": "enc.{coarser}_aux_residual",
    "down skip": "enc.{coarser}_aux_skip",
    "middle block": "dec.{here}_in{spot.number} dec.{here}_in{spot.number}",
    "up block": "dec.{here}_block{spot.number} dec.{here}_block{spot.number}",
    "up step": "dec.{finer}_up",
    "up output": "dec.{here}_aux_norm dec.{here}_aux_conv",
}


class ByResolution(Names):
    """Modules are named by their resolution; a step belongs to the level that it leads to."""

    places = _PLACES

    def __init__(self, size: int) -> None:
        self._size = size

    def numbers(self, spot: Spot) -> Mapping[str, str]:
        here = self._size >> spot.level
        return {name: f"{n}x{n}" for name, n in (("finer", 2 * here), ("here", here), ("coarser", here // 2))}


class _Names(ByResolution):
    """The networks of EDM, SongUNet and DhariwalUNet."""

    inside = table(
        "norm1=norm0 conv1=conv0 norm2=norm1 conv2=conv1 skip=skip modulation=affine "
        "attention.norm=norm2 attention.out=proj attention.qkv=qkv"
    )

    def __init__(self, size: int, adm: bool, net: Config, negated: bool) -> None:
        super().__init__(size)
        frequencies = "map_noise.freqs" if net.get("noise") == "fourier" else "frequencies"
        head = "out" if adm else f"dec.{size}x{size}_aux"
        self.top = table(
            f"{FREQUENCIES}={frequencies} modulation.hidden.0=map_layer0 modulation.hidden.1=map_layer1 "
            f"{CLASSES}=map_label.weight {NULL}=null stem=enc.{size}x{size}_conv "
            f"head.norm={head}_norm head.conv={head}_conv"
        )
        # rows (channel, q k v), the heads being the same; classes in columns
        self.forms = {"attention.qkv": interleaved(1), CLASSES: Tensor.t}
        self.forms |= {"modulation.out.bias": scale_and_shift} if adm else {"modulation.hidden.0.weight": sines_first}
        self.forms["head.conv"] = torch.neg if negated else same


class EDM(Layout):
    """See the module."""

    name = "edm"
    mark = r"enc\.\d+x\d+_conv\."
    keys = table(
        "sigma_data=sigma_data dropout=dropout precond=precond "
        "model_channels=channels channel_mult=multipliers num_blocks=blocks"
    )

    def given(self, config: Mapping[str, Any]) -> dict[str, Given]:
        """From `precond` and `sigma_data`, or the original's options with `network_kwargs`."""
        options = config.get("network_kwargs", config)
        require(isinstance(options, Mapping), "config network_kwargs", options, "give keys and values")
        found = super().given(options)
        if "class_name" in options:
            kind = str(options["class_name"]).rpartition(".")[2].removesuffix("Precond").lower()
            found["precond"] = Given(kind, "config network_kwargs.class_name")
        return found

    def plan(self, source: Source, facts: Facts) -> Plan:
        tensors = source.raw
        if "u" in tensors:
            facts.infer("precond", "iddpm", "u")
        _filter(tensors, facts)
        adm = "out_norm.weight" in tensors
        size, net = _net(tensors, facts, adm)
        precond = str(facts.get("precond", "edm"))
        sde, model = _iddpm(tensors["u"]) if "u" in tensors else _meaning(precond, float(facts.get("sigma_data", 0.5)))
        shape = (tensors[f"enc.{size}x{size}_conv.weight"].shape[1], size, size)
        plan = Plan(net, model, sde, shape, _Names(size, adm, net, precond == "ve"))
        plan.dropped = {k: why for k in tensors for end, why in _DROPPED.items() if k.endswith(end)}
        plan.made = unstored(net, _frequencies(net["channels"] // 2, int(not adm)))
        if "condition" in net and not adm:
            plan.prepare = _with_classes
        if "u" in tensors:
            plan.prepare, prepare = lambda used: without_variance(prepare(used), shape[0], _HEAD), plan.prepare
            plan.dropped |= {"u": "the table of noise levels is that of the SDE"} | VARIANCE
        return plan


def _filter(tensors: Tensors, facts: Facts) -> None:
    """The filter of resampling, which the file keeps as a constant."""
    kernels = [t for k, t in tensors.items() if k.endswith(".resample_filter")]
    if not kernels:
        return
    require(len({tuple(k.flatten().tolist()) for k in kernels}) == 1, "resample_filter", "several", "all must be one")
    taps = (kernels[0].sum((0, 1, 2)) * (2 if kernels[0].shape[-1] == 2 else 8)).tolist()
    require(taps in ([1, 1], [1, 3, 3, 1]), "resample_filter", taps, "only [1, 1] and [1, 3, 3, 1]")
    facts.infer("fir", len(taps) == 4, "resample_filter")


def _net(tensors: Tensors, facts: Facts, adm: bool) -> tuple[int, Config]:
    """The size of images and the configuration of our network."""
    sizes = numbers(tensors, r"enc\.(\d+)x\1_")[::-1]
    size = facts.infer("image_size", sizes[0], _NAMED)
    blocks = numbers(tensors, rf"enc\.{size}x{size}_block(\d+)\.conv0\.weight")
    channels = tensors["map_layer0.weight"].shape[0] // 4
    facts.infer("image_channels", tensors[f"enc.{size}x{size}_conv.weight"].shape[1], f"enc.{size}x{size}_conv.weight")
    widths = [tensors[f"enc.{n}x{n}_block0.conv0.weight"].shape[0] for n in sizes]
    attention = [k for k, n in enumerate(sizes) if f"enc.{n}x{n}_block0.qkv.weight" in tensors]
    classes = tensors.get("map_label.weight", torch.empty(0, 0)).shape[1]
    net = facts.network("names and shapes of weights", channels, widths, len(blocks), attention, classes)
    net["dropout"] = float(facts.get("dropout", 0.1))
    if not adm:
        return size, {**net, **_SONG_NET, **_song(tensors, facts), **({"condition_layer": "first"} if classes else {})}
    heads = all(widths[k] % 64 == 0 for k in (*attention, -1))
    require(heads, "channels", channels, "attention here has heads of 64 channels")
    return size, {**net, **_ADM_NET}


def _song(tensors: Tensors, facts: Facts) -> Config:
    """What else a SongUNet is; all but the filter shows in names and shapes."""
    names = " ".join(tensors)
    sides = {"_aux_residual.": "residual", "_aux_skip.": "input_skip"}
    side = next((kind for name, kind in sides.items() if name in names), "none")
    output = "output_skip" if names.count("_aux_norm.weight") > 1 else "none"
    return {
        "noise": facts.infer("noise", "fourier" if "map_noise.freqs" in tensors else "positional", "map_noise.freqs"),
        "fir": bool(facts.get("fir", False)),
        "progressive_input": facts.infer("progressive_input", side, _NAMED),
        "progressive_output": facts.infer("progressive_output", output, "aux_norm"),
    }


def _meaning(precond: str, sigma_data: float) -> tuple[Config, Config]:
    """The SDE and the model around the network."""
    if precond == "edm":
        return edm(sigma_data)
    if precond == "vp":
        return {"_target_": "scoresde.VPSDE", "beta_min": 0.1, "beta_max": 20.0}, labelled("time", 999.0)
    require(precond == "ve", "precond", precond, "give edm, vp or ve; iddpm needs the table u of its levels")
    model = labelled("log_sigma", 1.0, -math.log(2.0))  # the label is that of half of sigma
    return {"_target_": "scoresde.VESDE", "sigma_min": 0.02, "sigma_max": 100.0}, model


def _iddpm(u: Tensor) -> tuple[Config, Config]:
    """The path through the levels sigma = u, which fall to zero, and the model, whose labels rise with sigma."""
    alpha2 = 1 / (1 + u[:-1].flip(0).double() ** 2)
    sde = {"_target_": "scoresde.LevelsVPSDE", "alphas": alpha2.tolist()}
    return sde, labelled("time", float(len(alpha2) - 1))


def _frequencies(number: int, shift: int) -> Tensor:
    """As in `parts.frequencies`, with the rounding of this layout."""
    steps = torch.arange(number, dtype=torch.float32)
    return (1 / 10000) ** (steps / (number - shift))


def _with_classes(tensors: Tensors) -> Tensors:
    """Classes of a SongUNet are added to the features below the first layer; here to its result."""
    first, weight = tensors["map_layer0.weight"].double(), tensors["map_label.weight"].double()
    bias = tensors.get("map_label.bias", torch.zeros(len(weight))).double()
    none = first @ bias
    vectors = first @ weight * weight.shape[1] ** 0.5 + none[:, None]
    used = {name: t for name, t in tensors.items() if name != "map_label.bias"}
    return used | {"map_label.weight": vectors, "null": none}
