"""Checkpoints of score_sde_pytorch: NCSN++, DDPM++ and DDPM as one list of modules, `all_modules.N`.

Facts about that layout are here and in `score_sde_shapes`: the order of its modules, the names of their tensors, what
its configuration says, and how a score is made of the output (Song et al. 2021, arXiv 2011.13456, and its code).
"""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scoresde.convert.files import Source
from scoresde.convert.names import FREQUENCIES, Names, Spot
from scoresde.convert.parts import NEGATED, SAME, SINES_FIRST, TRANSPOSED, Form, Part, Tensors, table
from scoresde.convert.plan import (
    Allowed,
    Config,
    Facts,
    Given,
    Layout,
    Plan,
    check_allowed,
    discrete_vp,
    labelled,
    lookup,
)
from scoresde.convert.score_sde_shapes import infer
from scoresde.errors import InputError, refuse, require
from scoresde.nets.blocks import FilteredConv

_FREQUENCIES = "all_modules.0.W"
_ALLOWED: Allowed = {"model.normalization": ("groupnorm",), "model.nonlinearity": ("swish", "silu")}
_ALLOWED |= {"model.conv_size": (3,), "model.fir_kernel": ([1, 3, 3, 1],)}
_DDPM = {"block": "ddpm", "fir": False, "rescale": False, "groups": 32, "group_width": 1}  # what `ddpm` always is
_DDPM |= {"progressive_input": "none", "progressive_output": "none"}


class _Names(Names):
    """Modules are numbered in the order of computation."""

    block = table("norm1=GroupNorm_0 conv1=Conv_0 norm2=GroupNorm_1 conv2=Conv_1 modulation=Dense_0")
    attention = table("norm=GroupNorm_0 out=NIN_3")
    qkv = ("NIN_0", "NIN_1", "NIN_2")
    features = SINES_FIRST

    def __init__(self, net: Config, negated: bool, start: int) -> None:
        self.block = {**self.block, "skip": "NIN_0" if net["block"] == "ddpm" else "Conv_2"}
        self.sign = NEGATED if negated else SAME
        self._fourier, self._numbers = net["noise"] == "fourier", itertools.count(start)

    def name(self, ours: str = "") -> str:
        if ours == FREQUENCIES:
            return f"{self.name()}.W" if self._fourier else "frequencies"
        return f"all_modules.{next(self._numbers)}"

    def place(self, spot: Spot) -> tuple[str, str]:
        here, side = self.name(), spot.role == "side"
        if spot.attends or (side and spot.direction == "up"):
            return here, self.name()
        if hasattr(spot.module, "sizes"):
            return here, ""
        filtered = isinstance(getattr(spot.module, "halve", spot.module), FilteredConv)
        return f"{here}.{'Conv2d_0' if filtered else 'Conv_0'}", ""

    def layer(
        self, ours: str, theirs: str, weight: Form = SAME, bias: Form = SAME, rows: slice | None = None
    ) -> Iterator[Part]:
        if ".NIN_" in theirs:  # a 1x1 convolution that is stored as a matrix (inputs, outputs)
            yield Part(f"{ours}.weight", f"{theirs}.W", TRANSPOSED, rows)
            yield Part(f"{ours}.bias", f"{theirs}.b", rows=rows)
        else:
            yield from super().layer(ours, theirs, weight, bias, rows)


class ScoreSDE(Layout):
    """See the module."""

    name = "score_sde"
    keys = table(
        "model.nf=channels model.ch_mult=multipliers model.num_res_blocks=blocks model.embedding_type=noise "
        "model.fourier_scale=fourier_scale model.resblock_type=block model.fir=fir model.dropout=dropout "
        "model.resamp_with_conv=resample_conv model.progressive_input=progressive_input "
        "model.progressive_combine=progressive_combine model.progressive=progressive_output "
        "model.skip_rescale=rescale model.scale_by_sigma=scale_by_sigma model.num_scales=levels "
        "model.sigma_min=sigma_min model.sigma_max=sigma_max model.beta_min=beta_min model.beta_max=beta_max "
        "model.attn_resolutions=attn_resolutions data.image_size=image_size data.num_channels=image_channels "
        "data.centered=centered training.sde=sde training.continuous=continuous"
    )

    def matches(self, source: Source) -> bool:
        return any(name.startswith("all_modules.") for name in source.raw)

    def given(self, config: Mapping[str, Any]) -> dict[str, Given]:
        for name in ("training", "data", "model"):
            section = config.get(name) or {}
            require(isinstance(section, Mapping), f"config {name}", section, "give a section of keys and values")
        check_allowed(config, _ALLOWED, "config")
        found, name = super().given(config), lookup(config, "model.name")
        fixed: dict[str, Any] = {}
        if str(name).lower() == "ddpm":
            found.pop("noise", None)  # in the original's defaults, but not used by its ddpm
            fixed = _DDPM
        elif name is not None:
            fixed = {"groups": 32, "group_width": 4}
        found |= {key: Given(value, "config model.name") for key, value in fixed.items()}
        if not lookup(config, "model.conditional", True):
            found["noise"] = Given("none", "config model.conditional")
        return found

    def plan(self, source: Source, facts: Facts) -> Plan:
        tensors = dict(source.raw)
        shape, net = infer(tensors, facts)
        sde, discrete = _sde(facts)
        ve = sde["_target_"] == "scoresde.VESDE"
        divided = bool(facts.get("scale_by_sigma", ve))
        label = _label(facts, sde, discrete, net["noise"], divided)
        centered = bool(facts.get("centered", not ve))
        model = labelled(*label, centered=centered, precond="score" if ve and not divided else "eps")
        unused = _unused(tensors, net["noise"])
        names = _Names(net, divided, int(_FREQUENCIES in unused))
        prepare = partial(_prepared, net=net, unused=unused)
        return Plan(net, model, sde, shape, names, centered, prepare, unused)

    def averages(self, source: Source) -> Tensors | None:
        """The averages by name: the list has every parameter but the frozen frequencies, in the order of the file.

        Raises:
            InputError: their number or shapes differ from those of the model.
        """
        if not isinstance(source.averages, list):
            return super().averages(source)
        kept = {k: t for k, t in source.raw.items() if k == "sigmas" or (k == _FREQUENCIES and t.ndim == 1)}
        wanted = {k: tuple(t.shape) for k, t in source.raw.items() if k not in kept}
        given = source.averages
        if len(given) != len(wanted):
            raise InputError(f"file: ema.shadow_params holds {len(given)} tensors for {len(wanted)} parameters")
        for (name, shape), average in zip(wanted.items(), given, strict=True):
            found = tuple(average.shape) if isinstance(average, Tensor) else type(average).__name__
            refuse(found != shape, f"file: ema.shadow_params has {found} where the model has {name} of shape {shape}")
        return {**kept, **dict(zip(wanted, given, strict=True))}


def _sde(facts: Facts) -> tuple[Config, bool]:
    """The SDE, and whether the network knows its numbered levels only."""
    kind = str(facts.need("sde", "give sde=ve, vp or subvp, or config= with training.sde"))
    require(kind in ("vesde", "vpsde", "subvpsde"), "sde", kind, "give ve, vp or subvp")
    discrete = not facts.get("continuous", True)
    if kind == "vesde":
        ends = {"sigma_min": float(facts.get("sigma_min", 0.01)), "sigma_max": float(facts.get("sigma_max", 50.0))}
        return {"_target_": "scoresde.VESDE", **ends, "T": 1.0, "t_min": 1e-5, "t_train": 1e-5}, discrete
    low, high = float(facts.get("beta_min", 0.1)), float(facts.get("beta_max", 20.0))
    if kind == "vpsde" and discrete:  # the original has no discrete form of subvp
        levels = int(facts.get("levels", 1000))
        return discrete_vp("linear", levels, low / levels, high / levels), True
    target = "scoresde.VPSDE" if kind == "vpsde" else "scoresde.SubVPSDE"
    return {"_target_": target, "beta_min": low, "beta_max": high, "T": 1.0, "t_min": 1e-3, "t_train": 1e-5}, False


def _label(facts: Facts, sde: Config, discrete: bool, noise: str, divided: bool) -> tuple[str, float, float]:
    """The label of a noise level that the network takes.

    Args:
        facts: for the number of levels.
        sde: its configuration.
        discrete: whether the network knows numbered levels only.
        noise: the features of the label.
        divided: whether the output is divided by sigma to give the score.
    """
    ve = sde["_target_"] == "scoresde.VESDE"
    if divided and not ve:
        raise InputError("scale_by_sigma: true is made for sde=ve; with vp the original divides by labels, not sigma")
    if noise == "fourier":
        refuse(not ve, "embedding_type: Fourier features of a vp network, log(999 t), are not supported")
        require(not discrete, "continuous", False, "fourier features are for continuous=true")
        return "log_sigma", 1.0, 0.0
    if ve and discrete:  # labels count down from the largest noise
        last = float(int(facts.get("levels", 1000)) - 1)
        return "time", -last, last
    if ve and noise == "positional":
        raise InputError("continuous: true with positional features is not supported; give training.continuous")
    return "time", float(sde["levels"] - 1) if discrete else 999.0, 0.0


def _unused(tensors: Mapping[str, Tensor], noise: str) -> dict[str, str]:
    """What the original stores and does not use, with the reason."""
    unused = {"sigmas": "the table of noise levels follows from the SDE"} if "sigmas" in tensors else {}
    if noise == "none":
        idle = [k for k, t in tensors.items() if ".Dense_0." in k or (k == _FREQUENCIES and t.ndim == 1)]
        unused |= dict.fromkeys(idle, "the network does not depend on the noise level")
    return unused


def _prepared(tensors: Tensors, net: Config, unused: Collection[str]) -> Tensors:
    """Without what is not used, and with the frequencies of positional features, which no file stores."""
    tensors = {k: t for k, t in tensors.items() if k not in unused}
    if net["noise"] == "positional":
        half = net["channels"] // 2
        steps = torch.arange(half, dtype=torch.float32)  # in the precision in which they were used
        tensors["frequencies"] = torch.exp(steps * -(math.log(10000) / (half - 1)))
    return tensors
