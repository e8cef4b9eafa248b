"""Checkpoints of denoising-diffusion-pytorch: its `Unet`, alone or within the chain that trained it.

Facts about that layout are here and nowhere else: names, features, what the tables of the chain say (Ho et al. 2020,
arXiv 2006.11239, and the code of that package from 2.0 on).
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.convert.config import Config, edm, labelled, multipliers
from scoresde.convert.files import Source
from scoresde.convert.forms import Form, same, scale_and_shift, sines_first
from scoresde.convert.parts import VARIANCE, Part, Tensors, numbers, table, without_variance
from scoresde.convert.plan import Facts, Given, Layout, Plan
from scoresde.errors import refuse, require
from scoresde.nets.rms_unet import RMSBlock, RMSUNet
from scoresde.sde.discrete import betas

_SOURCE = "names and shapes of weights"
_NAMES = table(  # in the order in which they are tried
    r"^modulation\.embed\.frequencies=time_mlp.0.weights ^modulation\.hidden\.0=time_mlp.1 "
    r"^modulation\.hidden\.1=time_mlp.3 ^stem=init_conv ^head=final_conv ^last=final_res_block "
    r"^middle\.0\.attention=mid_attn ^middle\.0=mid_block1 ^middle\.1=mid_block2 ^(up|down)=\1s "
    r"\.blocks\.1\.attention=.2 \.blocks\.(\d)=.\1 \.resample\.conv=.3.1 "
    r"\.conv(\d)\.=.block\1.proj. \.norm(\d)\.=.block\1.norm. \.skip\.=.res_conv. "
    r"\.gain$=.g \.memory$=.mem_kv \.qkv\.=.to_qkv. \.out\.=.to_out."
)
_OBJECTIVES = table("pred_noise=eps pred_x0=x0 pred_v=v")
_SCHEDULES = ("linear", "cosine", "sigmoid")


class _Names:
    """The parts of a network with so many levels."""

    def __init__(self, levels: int) -> None:
        self._last = levels - 1

    def _name(self, ours: str) -> str:
        for pattern, theirs in _NAMES.items():
            ours = re.sub(pattern, theirs, ours)
        return ours.replace(f"s.{self._last}.3.1.", f"s.{self._last}.3.")  # no change of the resolution there

    def parts(self, net: RMSUNet) -> Iterator[Part]:
        """All parts, in the order of the state."""
        forms: dict[str, Form] = {"modulation.hidden.0.weight": _cosines_first}
        forms |= {f"{path}.memory": _transposed for path, m in net.named_modules() if getattr(m, "full", False)}
        for ours in net.state_dict():
            if not ours.startswith("modulation.out."):
                yield Part(ours, self._name(ours), forms.get(ours, same))
        row = 0
        for path, block in net.named_modules():
            if isinstance(block, RMSBlock):
                rows, name = slice(row, row + sum(block.sizes)), f"{self._name(path + '.')}mlp.1"
                yield Part("modulation.out.weight", f"{name}.weight", rows=rows)
                yield Part("modulation.out.bias", f"{name}.bias", scale_and_shift, rows)
                row = rows.stop


def _transposed(t: Tensor) -> Tensor:
    return t.mT


def _cosines_first(t: Tensor) -> Tensor:
    """Columns over (cosines, sines, label) of those over (label, sines, cosines), where the label may be missing."""
    label = t.shape[1] % 2
    return torch.cat((sines_first(t[:, label:]), t[:, :label]), 1)


class DenoisingDiffusion(Layout):
    """See the module."""

    name = "denoising_diffusion"
    mark = r"mid_block1\.block1\.proj\.weight"
    keys = table(
        "dim=channels dim_mults=multipliers init_dim=stem dropout=dropout sinusoidal_pos_emb_theta=theta "
        "image_size=image_size objective=objective beta_schedule=schedule timesteps=levels auto_normalize=centered "
        "sigma_data=sigma_data"
    )

    def plan(self, source: Source, facts: Facts) -> Plan:
        tensors = source.raw
        net, waves = _net(tensors, facts)
        inputs, outputs = tensors["init_conv.weight"].shape[1], len(tensors["final_conv.weight"])
        channels = min(inputs, outputs)
        own, variance = inputs == 2 * channels, outputs == 2 * channels
        wanted = f"file: {inputs} channels in and {outputs} out; classes and weighted objectives are not supported"
        refuse((inputs, outputs) != (channels * (1 + own), channels * (1 + variance)), wanted)
        size = int(facts.need("image_size", "give size= with the height and width of an image, or config="))
        sde, model = _meaning(tensors, facts, net["noise"] == "fourier")
        names = _Names(len(net["multipliers"]))
        plan = Plan(net, model, sde, (channels, size, size), names, bool(facts.get("centered", True)), made=waves)

        def prepare(used: Tensors) -> Tensors:
            used = {name: t for name, t in used.items() if "." in name}
            used["init_conv.weight"] = used["init_conv.weight"][:, inputs - channels :]
            return without_variance(used, channels, r"^final_conv\.")

        plan.prepare = prepare
        plan.dropped |= VARIANCE if variance else {}
        plan.dropped |= {"the tables of the chain": "they follow from betas"} if "betas" in tensors else {}
        if own:
            plan.notes.append("the network is evaluated without its last prediction, which it was trained to take too")
        return plan


def _net(tensors: Tensors, facts: Facts) -> tuple[Config, Tensors]:
    """The configuration of our network, and the frequencies of positional features."""
    channels, stem = len(tensors["time_mlp.3.weight"]) // 4, len(tensors["init_conv.weight"])
    count = len(numbers(tensors, r"downs\.(\d+)\."))
    steps = [tensors[f"downs.{k}.3{'.1' * (k < count - 1)}.weight"] for k in range(count)]
    full = [k for k in range(count) if f"downs.{k}.2.to_out.weight" in tensors]
    memories = [tensors[f"downs.{k}.2.mem_kv"].shape for k in range(count)]
    learned = "time_mlp.0.weights" in tensors
    net: Config = {"channels": channels, "multipliers": multipliers([len(t) for t in steps], channels), "stem": stem}
    net |= {"attention": full, "heads": [shape[1] for shape in memories]}
    net["head_width"] = [shape[3 if k in full else 2] for k, shape in enumerate(memories)]
    net["noise"] = "fourier" if learned else "positional"
    net = {key: facts.infer(key, value, _SOURCE) for key, value in net.items()}
    net |= {"_target_": "scoresde.nets.RMSUNet", "noise_scale": 1.0, "dropout": float(facts.get("dropout", 0.0))}
    if learned:
        return {**net, "features": 2 * len(tensors["time_mlp.0.weights"])}, {}
    half, theta = channels // 2, float(facts.get("theta", 10000))
    frequencies = torch.exp(torch.arange(half) * -(math.log(theta) / (half - 1)))  # rounded as in the original
    return net, {"time_mlp.0.weights": frequencies}


def _meaning(tensors: Tensors, facts: Facts, learned: bool) -> tuple[Config, Config]:
    """The SDE and the model: EDM if that is given, continuous time with log SNR as the label, or numbered levels."""
    if facts.given.get("sde", Given("", "")).value == "edmsde":
        facts.get("sde", "")
        return edm(float(facts.get("sigma_data", 0.5)))
    objective = _objective(tensors, facts)
    if learned:
        sde = {"_target_": "scoresde.VPSDE", "beta_min": 0.1, "beta_max": 20.0}
        return sde, labelled("log_sigma", -2.0, precond=objective)
    if "betas" in tensors:
        rates = tensors["betas"].double().numpy()
        facts.infer("levels", len(rates), "betas")
    else:
        kind = str(facts.need("schedule", "give config= with beta_schedule: linear, cosine or sigmoid"))
        require(kind in _SCHEDULES, "config beta_schedule", kind, "give linear, cosine or sigmoid")
        levels = int(facts.get("levels", 1000))
        rates = betas(kind, levels, 0.1 / levels, 20.0 / levels)
    sde = {"_target_": "scoresde.LevelsVPSDE", "alphas": np.cumprod(1 - rates).tolist()}
    return sde, labelled("time", float(len(rates) - 1), precond=objective)


def _objective(tensors: Tensors, facts: Facts) -> Any:
    """What the network predicts, which shows in the weights of the loss where SNR is near a half."""
    if "loss_weight" in tensors:
        alpha2 = torch.cumprod(1 - tensors["betas"].double(), 0)
        snr = alpha2 / (1 - alpha2)
        k = int((snr / 0.5).log().abs().argmin())
        weights = {"pred_noise": torch.ones(()), "pred_x0": snr[k], "pred_v": alpha2[k]}
        objective = min(weights, key=lambda name: abs(float(weights[name] - tensors["loss_weight"][k])))
        facts.infer("objective", objective, "loss_weight")
    remedy = f"give config= with objective: {', '.join(_OBJECTIVES)}; or sde=edm for the elucidated form"
    objective = str(facts.need("objective", remedy))
    require(objective in _OBJECTIVES, "config objective", objective, f"give {', '.join(_OBJECTIVES)}")
    return _OBJECTIVES[objective]
