"""Checkpoints of score_sde_pytorch: NCSN++, DDPM++ and DDPM as one list of modules, `all_modules.N`.

Facts about that layout are here and in `score_sde_shapes`: the order of its modules, the names of their tensors, what
its configuration says, and how a score is made of the output (Song et al. 2021, arXiv 2011.13456, and its code).
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from scoresde.convert.config import Allowed, Config, check_allowed, discrete_vp, labelled, lookup
from scoresde.convert.files import Source
from scoresde.convert.forms import same, sines_first
from scoresde.convert.names import ALL, FREQUENCIES, Names, Spot
from scoresde.convert.parts import Part, Tensors, table
from scoresde.convert.plan import Facts, Given, Layout, Plan, unstored
from scoresde.convert.score_sde_shapes import infer
from scoresde.errors import refuse, require

_FREQUENCIES = "all_modules.0.W"
_ALLOWED: Allowed = {"model.normalization": ("groupnorm",), "model.nonlinearity": ("swish", "silu")}
_ALLOWED |= {"model.conv_size": (3,), "model.fir_kernel": ([1, 3, 3, 1],)}
_SDES = {"vesde": "VESDE", "vpsde": "VPSDE", "subvpsde": "SubVPSDE"}
_NCSNPP = {"groups": 32, "group_width": 4}  # what a network of each name always is
_DDPM = {"block": "ddpm", "fir": False, "rescale": False, "groups": 32, "group_width": 1}
_DDPM |= {"progressive_input": "none", "progressive_output": "none"}
_FIXED: dict[str, dict[str, Any]] = {"none": {}, "ddpm": _DDPM}


class _Names(Names):
    """Modules are numbered in the order of computation."""

    def __init__(self, net: Config, negated: bool, start: int) -> None:
        skip = {"ddpm": "NIN_0", "biggan": "Conv_2"}[net["block"]]
        self.inside = table(
            f"norm1=GroupNorm_0 conv1=Conv_0 norm2=GroupNorm_1 conv2=Conv_1 skip={skip} modulation=Dense_0 "
            "attention.norm=GroupNorm_0 attention.out=NIN_3 attention.qkv=NIN_0,NIN_1,NIN_2"
        )
        self.forms = {"modulation.hidden.0.weight": sines_first, "head.conv": torch.neg if negated else same}
        self._fourier, self._numbers = net["noise"] == "fourier", itertools.count(start)
        self._convs = {"resample": ".Conv_0", "skip": ".Conv_0", "residual": ".Conv2d_0" if net["fir"] else ".Conv_0"}

    def name(self, ours: str = "") -> str:
        if ours != FREQUENCIES:
            return f"all_modules.{next(self._numbers)}"
        return f"{self.name()}.W" if self._fourier else "frequencies"

    def place(self, spot: Spot) -> tuple[str, str]:
        here = self.name() + self._convs.get(spot.kind, "")
        return here, self.name() if spot.kind == "output" or spot.attends else ""

    def layer(self, inner: str, theirs: str, path: str = "", rows: slice = ALL) -> Iterator[Part]:
        if ".NIN_" in theirs:  # a 1x1 convolution that is stored as a matrix (inputs, outputs)
            yield Part(f"{path}{inner}.weight", f"{theirs}.W", Tensor.t, rows)
            yield Part(f"{path}{inner}.bias", f"{theirs}.b", same, rows)
        else:
            yield from super().layer(inner, theirs, path, rows)


class ScoreSDE(Layout):
    """See the module."""

    name = "score_sde"
    mark = r"all_modules\."
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

    def given(self, config: Mapping[str, Any]) -> dict[str, Given]:
        for section in ("training", "data", "model"):
            values = config.get(section)
            require(
                isinstance(values, Mapping | None), f"config {section}", values, "give a section of keys and values"
            )
        check_allowed(config, _ALLOWED, "config")
        found, name = super().given(config), str(lookup(config, "model.name")).lower()
        if name == "ddpm":
            found.pop("noise", None)  # in the original's defaults, but not used by its ddpm
        found |= {key: Given(value, "config model.name") for key, value in _FIXED.get(name, _NCSNPP).items()}
        if not lookup(config, "model.conditional", True):
            found["noise"] = Given("none", "config model.conditional")
        return found

    def plan(self, source: Source, facts: Facts) -> Plan:
        tensors = source.raw
        shape, net = infer(tensors, facts)
        sde, discrete = _sde(facts)
        ve = sde["_target_"] == "scoresde.VESDE"
        divided = bool(facts.get("scale_by_sigma", ve))
        label = _label(facts, sde, discrete, net["noise"], divided)
        centered = bool(facts.get("centered", not ve))
        model = labelled(*label, centered=centered, precond="score" if ve and not divided else "eps")
        unused = _unused(tensors, net["noise"])
        plan = Plan(net, model, sde, shape, _Names(net, divided, int(_FREQUENCIES in unused)), centered, unused)
        steps = torch.arange(net["channels"] // 2, dtype=torch.float32)  # rounded as in the original
        plan.made = unstored(net, torch.exp(steps * -(math.log(10000) / max(len(steps) - 1, 1))))
        return plan

    def averages(self, source: Source) -> Tensors | None:
        """The averages by name: the list has every parameter but the frozen frequencies, in the order of the file.

        Raises:
            InputError: their number or shapes differ from those of the model.
        """
        if not isinstance(source.averages, list):
            return super().averages(source)
        frozen, given = _frozen(source.raw), source.averages
        wanted = {name: t.shape for name, t in source.raw.items() if name not in frozen}
        number = len(wanted)
        refuse(len(given) != number, f"file: ema.shadow_params holds {len(given)} tensors for {number} parameters")
        averages = dict(zip(wanted, given, strict=True))
        for name, shape in wanted.items():
            found, there = tuple(averages[name].shape), tuple(shape)
            refuse(found != there, f"file: ema.shadow_params has {found} where the model has {name} of shape {there}")
        return {name: source.raw[name] for name in frozen} | averages


def _frozen(tensors: Tensors) -> list[str]:
    """The tensors that are no parameters."""
    return [name for name in ("sigmas", _FREQUENCIES) if tensors.get(name, torch.empty(0, 0)).ndim == 1]


def _sde(facts: Facts) -> tuple[Config, bool]:
    """The SDE, and whether the network knows its numbered levels only."""
    kind = str(facts.need("sde", "give sde=ve, vp or subvp, or config= with training.sde"))
    require(kind in _SDES, "sde", kind, "give ve, vp or subvp")
    discrete, target = not facts.get("continuous", True), f"scoresde.{_SDES.get(kind)}"
    if kind == "vesde":
        ends = {"sigma_min": float(facts.get("sigma_min", 0.01)), "sigma_max": float(facts.get("sigma_max", 50.0))}
        return {"_target_": target, **ends, "T": 1.0, "t_min": 1e-5, "t_train": 1e-5}, discrete
    low, high = float(facts.get("beta_min", 0.1)), float(facts.get("beta_max", 20.0))
    if kind == "vpsde" and discrete:  # the original has no discrete form of subvp
        levels = int(facts.get("levels", 1000))
        return discrete_vp("linear", levels, low / levels, high / levels), True
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
    wrong = divided and not ve
    refuse(wrong, "scale_by_sigma: true is made for sde=ve; with vp the original divides by labels, not sigma")
    if noise == "fourier":
        require(not discrete, "continuous", False, "fourier features are for continuous=true")
        return ("log_sigma", 1.0, 0.0) if ve else ("log_time", 1.0, math.log(999.0))
    if ve and discrete:  # labels count down from the largest noise
        last = float(int(facts.get("levels", 1000)) - 1)
        return "time", -last, last
    unknown = ve and noise == "positional"
    refuse(unknown, "continuous: true with positional features is not supported; give training.continuous")
    return "time", float(sde.get("levels", 1000) - 1), 0.0


def _unused(tensors: Tensors, noise: str) -> dict[str, str]:
    """What the original stores and does not use, with the reason."""
    unused = {}
    if noise == "none":
        idle = [name for name in tensors if ".Dense_0." in name]
        unused = dict.fromkeys([*idle, *_frozen(tensors)], "the network does not depend on the noise level")
    return unused | dict.fromkeys({"sigmas"} & tensors.keys(), "the table of noise levels follows from the SDE")
