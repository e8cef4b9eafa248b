"""Checkpoints of score_sde_pytorch: NCSN++, DDPM++ and DDPM as one list of modules, `all_modules.N`.

Facts about that layout are here and nowhere else: the order of its modules, the names of their tensors, what its
configuration says, and how a score is made of the output (Song et al. 2021, arXiv 2011.13456, and its code).
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.convert.facts import Facts, Given
from scoresde.convert.files import Source
from scoresde.convert.parts import NEGATED, SAME, SINES_FIRST, TRANSPOSED, Part, Tensors, layer
from scoresde.convert.plan import Config, Plan, labelled
from scoresde.convert.score_sde_shapes import infer
from scoresde.convert.walk import Spot, spots
from scoresde.errors import InputError, require
from scoresde.nets import NCSNpp
from scoresde.nets.attention import ImageAttention
from scoresde.nets.blocks import ResampledConv, ResidualBlock
from scoresde.nets.embedding import Modulation, RandomFourierEmbedding
from scoresde.nets.ncsnpp import InputSkip

NAME = "score_sde"
# what of the original's section `model` our arguments are called
_NAMES = {
    "nf": "channels",
    "ch_mult": "multipliers",
    "num_res_blocks": "blocks",
    "embedding_type": "noise",
    "fourier_scale": "fourier_scale",
    "resblock_type": "block",
    "fir": "fir",
    "resamp_with_conv": "resample_conv",
    "progressive_input": "progressive_input",
    "progressive_combine": "progressive_combine",
    "progressive": "progressive_output",
    "skip_rescale": "rescale",
    "dropout": "dropout",
    "scale_by_sigma": "scale_by_sigma",
    "num_scales": "levels",
    **{name: name for name in ("sigma_min", "sigma_max", "beta_min", "beta_max")},
}
_FREQUENCIES = "all_modules.0.W"
_ONLY = {"normalization": ("groupnorm",), "nonlinearity": ("swish", "silu"), "conv_size": (3,)}


def matches(source: Source) -> bool:
    """Whether these are the names of that layout."""
    return any(name.startswith("all_modules.") for name in source.raw)


def given_by(config: Mapping[str, Any]) -> dict[str, Given]:
    """What a configuration of the original says, by our names.

    Raises:
        InputError: a section is not as in the original, or asks for what is not to be had here.
    """
    sections = {name: config.get(name) or {} for name in ("training", "data", "model")}
    for name, section in sections.items():
        require(isinstance(section, Mapping), f"config {name}", section, "give a section of keys and values")
    training, data, model = sections.values()
    found = {
        ours: Given(_lower(model[k]), f"config model.{k}") for k, ours in _NAMES.items() if model.get(k) is not None
    }
    for key, allowed in _ONLY.items():
        value = model.get(key, allowed[0])
        require(_lower(value) in allowed, f"config model.{key}", value, f"only {allowed[0]} can be converted")
    kernel = model.get("fir_kernel", [1, 3, 3, 1])
    require(list(kernel) == [1, 3, 3, 1], "config model.fir_kernel", kernel, "only [1, 3, 3, 1] can be converted")
    plain = str(model.get("name", "")).lower() == "ddpm"
    if plain:
        found.pop("noise", None)  # which the original's defaults name, and its ddpm does not ask
        found |= _ddpm("config model.name")
    elif "name" in model:
        found |= {"groups": Given(32, "config model.name"), "group_width": Given(4, "config model.name")}
    if not model.get("conditional", True):
        found["noise"] = Given("none", "config model.conditional")
    for section, key in ((training, "sde"), (training, "continuous"), (data, "centered"), (data, "image_size")):
        if section.get(key) is not None:
            where = "training" if section is training else "data"
            found[key] = Given(_lower(section[key]), f"config {where}.{key}")
    if data.get("num_channels") is not None:
        found["pictures"] = Given(data["num_channels"], "config data.num_channels")
    if model.get("attn_resolutions") is not None:
        found["attn_resolutions"] = Given(model["attn_resolutions"], "config model.attn_resolutions")
    return found


def _ddpm(name: str) -> dict[str, Given]:
    """What the original's network `ddpm` always is."""
    fixed = {"block": "ddpm", "fir": False, "rescale": False, "groups": 32, "group_width": 1}
    fixed |= {"progressive_input": "none", "progressive_output": "none"}
    return {key: Given(value, name) for key, value in fixed.items()}


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def plan(source: Source, facts: Facts) -> Plan:
    """What our network, its SDE and its parts are.

    Raises:
        InputError: something is not known, contradicts itself, or is not to be had here.
    """
    tensors = dict(source.raw)
    shape, net = infer(tensors, facts)
    sde, discrete = _sde(facts)
    label, divided = _label(facts, sde, discrete, net["noise"])
    precond = "eps" if divided or "VESDE" not in sde["_target_"] else "score"
    model = labelled(*label, centered=_centered(facts, sde), precond=precond)

    def parts(made: nn.Module) -> list[Part]:
        assert isinstance(made, NCSNpp)
        return list(_parts(made, divided, int(_FREQUENCIES in unused)))

    unused = _unused(tensors, net["noise"])
    return Plan(net, model, sde, shape, model["centre"] == 0, parts, _prepare(net, unused), unused)


def _sde(facts: Facts) -> tuple[Config, bool]:
    """The SDE, and whether the network knows its numbered levels only."""
    kind = str(facts.need("sde", "give sde=ve, vp or subvp, or config= with training.sde"))
    continuous = bool(facts.get("continuous", True, "as in most of the original's configurations"))
    if kind == "vesde":
        low, high = facts.get("sigma_min", 0.01, "usual"), facts.get("sigma_max", 50.0, "usual")
        ends = {"sigma_min": float(low), "sigma_max": float(high), "T": 1.0, "t_min": 1e-5, "t_train": 1e-5}
        return {"_target_": "scoresde.VESDE", **ends}, not continuous
    require(kind in ("vpsde", "subvpsde"), "sde", kind, "give ve, vp or subvp")
    low, high = float(facts.get("beta_min", 0.1, "usual")), float(facts.get("beta_max", 20.0, "usual"))
    times = {"T": 1.0, "t_min": 1e-3, "t_train": 1e-5}
    if kind == "subvpsde":  # of which the original has no discrete form
        return {"_target_": "scoresde.SubVPSDE", "beta_min": low, "beta_max": high, **times}, False
    if continuous:
        return {"_target_": "scoresde.VPSDE", "beta_min": low, "beta_max": high, **times}, False
    levels = int(facts.get("levels", 1000, "usual"))
    rates = {"schedule": "linear", "levels": levels, "first": low / levels, "last": high / levels}
    return {"_target_": "scoresde.convert.DiscreteVPSDE", **rates}, True


def _label(facts: Facts, sde: Config, discrete: bool, noise: str) -> tuple[tuple[str, float, float], bool]:
    """What the network is told at a level, and whether its output is divided by sigma to be a score."""
    ve = sde["_target_"] == "scoresde.VESDE"
    divided = bool(facts.get("scale_by_sigma", ve, "usual with this SDE"))
    if divided and not ve:
        raise InputError("scale_by_sigma: true is made for sde=ve; with vp the original divides by labels, not sigma")
    if noise == "fourier":
        if not ve:
            raise InputError(
                "embedding_type: fourier features of a vp network are of log(999 t), which no level has here"
            )
        require(not discrete, "continuous", False, "fourier features are for continuous=true")
        return ("log_sigma", 1.0, 0.0), divided
    if ve and discrete:  # labels count down from the largest noise
        last = float(int(facts.get("levels", 1000, "usual")) - 1)
        return ("time", -last, last), divided
    if ve and noise == "positional":
        raise InputError(
            "continuous: true with positional features of sigma is not to be had; give training.continuous"
        )
    last = float(sde["levels"] - 1) if discrete else 999.0
    return ("time", last, 0.0), divided


def _centered(facts: Facts, sde: Config) -> bool:
    ve = sde["_target_"] == "scoresde.VESDE"
    return bool(facts.get("centered", not ve, "usual with this SDE"))


def averaged(source: Source) -> Tensors | None:
    """The averages by name: the list has every parameter but the frozen frequencies, in the order of the file.

    Raises:
        InputError: their number or shapes are others.
    """
    given = source.averages
    if given is None or isinstance(given, dict):
        return given
    kept = {k: t for k, t in source.raw.items() if k == "sigmas" or (k == _FREQUENCIES and t.ndim == 1)}
    names = [k for k in source.raw if k not in kept]
    if len(given) != len(names):
        raise InputError(f"file: ema.shadow_params holds {len(given)} tensors for {len(names)} parameters of the model")
    for name, average in zip(names, given, strict=True):
        if not isinstance(average, Tensor) or average.shape != source.raw[name].shape:
            shape = tuple(average.shape) if isinstance(average, Tensor) else type(average).__name__
            wanted = tuple(source.raw[name].shape)
            raise InputError(f"file: ema.shadow_params has {shape} where the model has {name} of shape {wanted}")
    return {**kept, **dict(zip(names, given, strict=True))}


def _unused(tensors: Mapping[str, Tensor], noise: str) -> dict[str, str]:
    """What the original makes and does not use, with the reason."""
    unused = {"sigmas": "the table of noise levels follows from the SDE"} if "sigmas" in tensors else {}
    if noise == "none":
        idle = [k for k, t in tensors.items() if ".Dense_0." in k or (k == _FREQUENCIES and t.ndim == 1)]
        unused |= dict.fromkeys(idle, "the network is not told the noise level")
    return unused


def _prepare(net: Config, unused: Collection[str]) -> Callable[[Tensors], Tensors]:
    """Leave what is not used, and add the frequencies of positional features, which are nowhere stored."""

    def prepare(tensors: Tensors) -> Tensors:
        tensors = {k: t for k, t in tensors.items() if k not in unused}
        if net["noise"] == "positional":
            half = net["channels"] // 2
            steps = torch.arange(half, dtype=torch.float32)  # in the precision in which they were used
            tensors["frequencies"] = torch.exp(steps * -(math.log(10000) / (half - 1)))
        return tensors

    return prepare


def _parts(net: NCSNpp, negated: bool, start: int) -> Iterator[Part]:
    number = itertools.count(start)
    ddpm = net._kind == "ddpm"

    def name() -> str:
        return f"all_modules.{next(number)}"

    if isinstance(net.modulation, Modulation):
        fourier = isinstance(net.modulation.embed, RandomFourierEmbedding)
        yield Part("modulation.embed.frequencies", f"{name()}.W" if fourier else "frequencies")
        yield from layer("modulation.hidden.0", name(), weight=SINES_FIRST)
        yield from layer("modulation.hidden.1", name())
    yield from layer("stem", name())
    for spot in spots(net):
        yield from _spot(spot, name, ddpm, negated)
    if net.head is not None:
        yield from _head("head", name, negated)


def _spot(spot: Spot, name: Callable[[], str], ddpm: bool, negated: bool) -> Iterator[Part]:
    module, path = spot.module, spot.path
    if isinstance(module, ResidualBlock):
        yield from _block(spot, name(), ddpm)
        if isinstance(module.attention, ImageAttention):
            yield from _attention(f"{path}.attention", name(), module.attention.out.in_features)
    elif spot.role == "side" and spot.way == "up":
        yield from _head(f"{path}.head", name, negated)
    elif isinstance(module, InputSkip):
        yield from layer(f"{path}.conv", f"{name()}.Conv_0")
    else:  # a convolution between levels, perhaps with a filter, or a mean without weights
        here, inner = name(), f"{path}.halve" if spot.role == "side" else path
        step = module.halve if spot.role == "side" else module
        filtered = type(step).__name__ == "FilteredConv"
        if not isinstance(step, ResampledConv) or step.conv is not None:
            yield from layer(f"{inner}.conv", f"{here}.{'Conv2d_0' if filtered else 'Conv_0'}")


def _block(spot: Spot, theirs: str, ddpm: bool) -> Iterator[Part]:
    for ours, part in (("norm1", "GroupNorm_0"), ("conv1", "Conv_0"), ("norm2", "GroupNorm_1"), ("conv2", "Conv_1")):
        yield from layer(f"{spot.path}.{ours}", f"{theirs}.{part}")
    for rows in spot.rows:
        yield from layer("modulation.out", f"{theirs}.Dense_0", rows=rows)
    if spot.module.skip is not None:
        yield from (
            _nin(f"{spot.path}.skip", f"{theirs}.NIN_0") if ddpm else layer(f"{spot.path}.skip", f"{theirs}.Conv_2")
        )


def _attention(ours: str, theirs: str, width: int) -> Iterator[Part]:
    yield from layer(f"{ours}.norm", f"{theirs}.GroupNorm_0")
    for i in range(3):
        yield from _nin(f"{ours}.qkv", f"{theirs}.NIN_{i}", slice(i * width, (i + 1) * width))
    yield from _nin(f"{ours}.out", f"{theirs}.NIN_3")


def _nin(ours: str, theirs: str, rows: slice | None = None) -> Iterator[Part]:
    """A 1x1 convolution that is stored as a matrix (inputs, outputs)."""
    yield Part(f"{ours}.weight", f"{theirs}.W", TRANSPOSED, rows)
    yield Part(f"{ours}.bias", f"{theirs}.b", rows=rows)


def _head(ours: str, name: Callable[[], str], negated: bool) -> Iterator[Part]:
    """A norm and a convolution; the score is the output over sigma, and ours is -eps = sigma score."""
    yield from layer(f"{ours}.norm", name())
    form = NEGATED if negated else SAME
    yield from layer(f"{ours}.conv", name(), form, form)
