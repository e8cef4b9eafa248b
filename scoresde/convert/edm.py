"""State dicts of EDM's networks, SongUNet and DhariwalUNet: modules named by resolution, such as `enc.32x32_conv`.

Facts about that layout are here and nowhere else (Karras et al. 2022, arXiv 2206.00364, and its code).
"""

import math
import re
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import torch

from scoresde.convert.files import Source
from scoresde.convert.names import CLASSES, FREQUENCIES, NULL, Names, Spot
from scoresde.convert.parts import NEGATED, SAME, SCALE_AND_SHIFT, SINES_FIRST, Form, Tensors, table
from scoresde.convert.plan import Config, Facts, Given, Layout, Plan, arguments, labelled
from scoresde.errors import InputError, require
from scoresde.nets.layers import ImageAttention

# rows (channel, q k v) become rows (q k v, channel); the heads are the same
_QKV = Form(
    lambda t: t.reshape(-1, 3, *t.shape[1:]).transpose(0, 1).flatten(0, 1),
    lambda t: t.reshape(3, -1, *t.shape[1:]).transpose(0, 1).flatten(0, 1),
)
_DROPPED = {".resample_filter": "a constant", "map_augment.weight": "labels of augmentation are zero in sampling"}
_ADM_NET = {"_target_": "scoresde.nets.ADM", "head_width": 64, "group_width": 4}
_SONG_NET = {"_target_": "scoresde.nets.NCSNpp", "noise_shift": 0.0, "block": "biggan", "rescale": True}
_SONG_NET |= {"attention_up": "last", "group_width": 4}
_NAMED = "the names of modules"


class _Names(Names):
    """Modules are named by their resolution; a step belongs to the level that it leads to."""

    block = table("norm1=norm0 conv1=conv0 norm2=norm1 conv2=conv1 skip=skip modulation=affine")
    attention = table("norm=norm2 out=proj")

    def __init__(self, size: int, adm: bool, negated: bool) -> None:
        self._size = size
        head = "out" if adm else f"dec.{size}x{size}_aux"
        self.top = table(
            f"{FREQUENCIES}=map_noise.freqs modulation.hidden.0=map_layer0 modulation.hidden.1=map_layer1 "
            f"{CLASSES}=map_label.weight {NULL}=null stem=enc.{size}x{size}_conv "
            f"head.norm={head}_norm head.conv={head}_conv"
        )
        self.features, self.affine = (SAME, SCALE_AND_SHIFT) if adm else (SINES_FIRST, SAME)
        self.sign = NEGATED if negated else SAME

    def place(self, spot: Spot) -> tuple[str, str]:
        down = spot.direction == "down"
        deeper = {"block": 0, "resample": 1 if down else -1, "side": int(down)}[spot.role]
        n = self._size >> spot.level + deeper
        here = f"{'enc' if down else 'dec'}.{n}x{n}_"
        if spot.role == "block":
            name = f"{here}{'in' if spot.direction == 'middle' else 'block'}{spot.number}"
            return name, name
        if spot.role == "resample":
            return f"{here}{spot.direction}", ""
        if not down:
            return f"{here}aux_norm", f"{here}aux_conv"
        return f"{here}aux_{'residual' if hasattr(spot.module, 'halve') else 'skip'}", ""

    def of_qkv(self, module: ImageAttention) -> Form:
        return _QKV


class EDM(Layout):
    """See the module."""

    name = "edm"
    keys = table(
        "sigma_data=sigma_data dropout=dropout precond=precond "
        "model_channels=channels channel_mult=multipliers num_blocks=blocks"
    )

    def matches(self, source: Source) -> bool:
        return any(re.match(r"(model\.)?enc\.\d+x\d+_conv\.", name) for name in source.raw)

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
        if "u" in source.raw and "model.map_layer0.weight" in source.raw:
            raise InputError("file: iDDPM's preconditioning, which rounds noise levels, cannot be converted")
        unused = {k: why for k in source.raw for end, why in _DROPPED.items() if k.endswith(end)}
        _filter(source.raw, facts)
        tensors = _bare(source.raw, unused)
        adm = "out_norm.weight" in tensors
        size, net = _net(tensors, facts, adm)
        precond = str(facts.get("precond", "edm"))
        sde, model = _meaning(precond, float(facts.get("sigma_data", 0.5)))
        shape = (tensors[f"enc.{size}x{size}_conv.weight"].shape[1], size, size)
        names, prepare = _Names(size, adm, precond == "ve"), partial(_prepared, unused=unused, adm=adm)
        return Plan(net, model, sde, shape, names, True, prepare, unused)


def _bare(tensors: Tensors, unused: Collection[str]) -> Tensors:
    """Without what is not used, and without the prefix of the preconditioning."""
    return {k.removeprefix("model."): t for k, t in tensors.items() if k not in unused}


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
    sizes = sorted({int(m[1]) for name in tensors if (m := re.match(r"enc\.(\d+)x\1_", name))}, reverse=True)
    size = facts.infer("image_size", sizes[0], _NAMED)
    blocks = [name for name in tensors if re.match(rf"enc\.{size}x{size}_block\d+\.conv0\.weight", name)]
    channels = tensors["map_layer0.weight"].shape[0] // 4
    facts.infer("image_channels", tensors[f"enc.{size}x{size}_conv.weight"].shape[1], f"enc.{size}x{size}_conv.weight")
    widths = [tensors[f"enc.{n}x{n}_block0.conv0.weight"].shape[0] for n in sizes]
    attention = [k for k, n in enumerate(sizes) if f"enc.{n}x{n}_block0.qkv.weight" in tensors]
    classes = tensors["map_label.weight"].shape[1] if "map_label.weight" in tensors else None
    dropout = float(facts.get("dropout", 0.1))
    net = arguments(facts, "names and shapes of weights", channels, widths, len(blocks), attention, classes, dropout)
    if adm:
        wide = [*(widths[k] for k in attention), widths[-1]]
        require(not any(w % 64 for w in wide), "channels", channels, "attention here has heads of 64 channels")
        return size, {**net, **_ADM_NET}
    listens = {} if classes is None else {"condition_layer": "first"}
    return size, {**net, **listens, **_SONG_NET, **_song(tensors, facts)}


def _song(tensors: Tensors, facts: Facts) -> Config:
    """What else a SongUNet is; all but the filter shows in names and shapes."""
    sides = {"_aux_residual.": "residual", "_aux_skip.": "input_skip"}
    side = next((kind for name, kind in sides.items() if any(name in k for k in tensors)), "none")
    heads = sum(k.endswith("_aux_norm.weight") for k in tensors)
    return {
        "noise": facts.infer("noise", "fourier" if "map_noise.freqs" in tensors else "positional", "map_noise.freqs"),
        "fir": bool(facts.get("fir", False)),
        "progressive_input": facts.infer("progressive_input", side, _NAMED),
        "progressive_output": facts.infer("progressive_output", "output_skip" if heads > 1 else "none", "aux_norm"),
    }


def _meaning(precond: str, sigma_data: float) -> tuple[Config, Config]:
    """The SDE and the model around the network."""
    if precond == "edm":
        model = {"_target_": "scoresde.ScoreModel", "precond": "edm", "sigma_data": sigma_data}
        return {"_target_": "scoresde.EDMSDE", "sigma_min": 0.002, "sigma_max": 80.0}, model
    if precond == "vp":
        return {"_target_": "scoresde.VPSDE", "beta_min": 0.1, "beta_max": 20.0}, labelled("time", 999.0)
    require(precond == "ve", "precond", precond, "give edm, vp or ve")
    model = labelled("log_sigma", 1.0, -math.log(2.0))  # the label is that of half of sigma
    return {"_target_": "scoresde.VESDE", "sigma_min": 0.02, "sigma_max": 100.0}, model


def _prepared(tensors: Tensors, unused: Collection[str], adm: bool) -> Tensors:
    """With the frequencies that no file stores, and classes as this project adds them."""
    tensors = _bare(tensors, unused)
    features = tensors["map_layer0.weight"].shape[1]
    if "map_noise.freqs" not in tensors:
        steps = torch.arange(features // 2, dtype=torch.float32)  # in the precision in which they were used
        tensors["map_noise.freqs"] = (1 / 10000) ** (steps / (features // 2 - (0 if adm else 1)))
    if "map_label.weight" in tensors:
        vectors = tensors["map_label.weight"].double().T
        none = torch.zeros(vectors.shape[1], dtype=torch.float64)
        if not adm:  # added to the features below the first layer; here to its result
            first = tensors["map_layer0.weight"].double()
            none = first @ tensors.pop("map_label.bias", none).double()
            vectors = vectors @ first.T * len(vectors) ** 0.5 + none
        tensors |= {"map_label.weight": vectors, "null": none}
    return tensors
