"""What the shapes of a score_sde_pytorch checkpoint say about its network.

Every module of the list becomes a letter, and the down path is read from the word that they form:

    W frequencies   L linear layer   C convolution   N norm   A attention   _ no weights
    B residual block   R residual block between levels   D one convolution between levels, or of the image
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Size, Tensor

from scoresde.convert.config import Config, multipliers
from scoresde.convert.plan import Facts
from scoresde.errors import InputError, refuse

_REST = "give config= with the original's configuration, or the nearest of model=ncsnpp, ddpmpp, ddpm"
_CONSTANT: Config = {"_target_": "scoresde.nets.NCSNpp", "attention_up": "last", "head_width": 0}
_CONSTANT |= {"progressive_input": "none", "noise_scale": 1.0, "noise_shift": 0.0}
_LETTERS = {  # the first whose pattern is that of the module's tensors, sorted, each with its number of dimensions
    "B": r".*\bConv_0\.weight/.*\bGroupNorm_0\.weight/.*",
    "A": r".*\bNIN_3\.W/.*",
    "D": r"(Conv_0\.\S+ ?)+|(Conv2d_0\.\S+ ?)+",
    "N": r"(.* )?weight/1( .*)?",
    "L": r"(.* )?weight/2( .*)?",
    "C": r"(.* )?weight/4( .*)?",
    "W": r"(.* )?W/1( .*)?",
    "_": "",
}
Shapes = dict[str, Size]  # of one module of the list, by the rest of the name
Found = dict[str, tuple[Any, str]]  # values, with what they were read from


def infer(tensors: Mapping[str, Tensor], facts: Facts) -> tuple[tuple[int, int, int], Config]:
    """The shape of an image and the configuration of our network.

    Raises:
        InputError: the list of modules is not that of such a network, or a value is not known.
    """
    modules = _modules(tensors)
    found = re.fullmatch(r"(W?)(LL|)C((?:BA?)+.*)", "".join(_letter(m) for m in modules))
    if not found:
        raise InputError("checkpoint: the modules are not those of ncsnpp or ddpm: features, convolution, blocks")
    start = found.start(3)
    stem, body = modules[start - 1]["weight"], modules[start:]
    noise = {"LL": "positional", "WLL": "fourier"}.get(found[1] + found[2], "none")
    values: Found = {
        "noise": (noise, "the layers in front of the first convolution"),
        "image_channels": (stem[1], f"all_modules.{start - 1}.weight"),
        "channels": (stem[0], f"all_modules.{start - 1}.weight"),
        **_ladder(body, found[3], stem[0]),
    }
    net = {key: facts.infer(key, value, source) for key, (value, source) in values.items()}
    size = int(facts.need("image_size", "give size= with the height and width of an image, or config="))
    _check_attention(net, size, facts)
    _sigmas(tensors.get("sigmas", torch.empty(0)), facts)
    shape = (net.pop("image_channels"), size, size)
    return shape, _completed(net, facts)


def _modules(tensors: Mapping[str, Tensor]) -> list[Shapes]:
    """The shapes of each module of the list; those without weights are empty."""
    found: dict[int, Shapes] = {}
    for name, tensor in tensors.items():
        matched = re.fullmatch(r"all_modules\.(\d{1,5})\.(.+)", name)
        if matched:
            found.setdefault(int(matched[1]), {})[matched[2]] = tensor.shape
    return [found.get(i, {}) for i in range(max(found) + 1)]


def _letter(module: Shapes) -> str:
    """What a module is; see above. `?` for anything else."""
    signature = " ".join(sorted(f"{name}/{len(shape)}" for name, shape in module.items()))
    letter = next((letter for letter, pattern in _LETTERS.items() if re.fullmatch(pattern, signature)), "?")
    if letter == "B" and "Conv_2.weight" in module:  # a block between levels always has a projection
        out, into = module["Conv_0.weight"][:2]
        return "R" if out == into else "B"
    return letter


def _ladder(body: list[Shapes], word: str, channels: int) -> Found:
    """Levels, blocks, widths, attention, and the images that run beside the features."""
    count, spans = _levels(word)
    widths = [body[start]["Conv_0.weight"][0] for start, _ in spans]
    heads, end = word.count("N"), spans[0][1]
    one = heads in (1, len(widths))
    refuse(not one, "checkpoint: progressive=residual cannot be converted; none and output_skip can")
    return {
        "block": ("biggan", "Conv_2") if any("Conv_2.weight" in m for m in body) else ("ddpm", "NIN_0"),
        "multipliers": (multipliers(widths, channels), "the widths of residual blocks"),
        "blocks": (count, "blocks in front of the first step"),
        "attention": ([k for k, (start, end) in enumerate(spans) if "A" in word[start:end]], "NIN_3"),
        "progressive_output": ("output_skip" if heads > 1 else "none", f"{heads} norms at the ends of levels"),
        **(_step(body[end:], word[end:]) if len(spans) > 1 else {}),
    }


def _levels(word: str) -> tuple[int, list[tuple[int, int]]]:
    """The number of blocks of a level, and where each level of the down path begins and ends in the word."""
    leading = re.match(r"(?:BA?)+", word)
    assert leading
    count = leading[0].count("B")
    if word[leading.end() : leading.end() + 1] in ("N", ""):  # one level, followed by the middle and the up path
        count = (count - 3) // 2
    level = f"(?:BA?){{{count}}}"
    down = re.match(f"(?:{level}[RD_]D?)*{level}", word)
    if count < 1 or not down:
        raise InputError(f"checkpoint: the levels do not all have {count} residual blocks, as the first one has")
    return count, [found.span() for found in re.finditer(level, down[0])]


def _step(body: list[Shapes], word: str) -> Found:
    """What the first step between levels says, and the image that may come in behind it."""
    conv: Found = {"fir": ("Conv2d_0.weight" in body[0], "the name of the convolution between levels")}
    conv["resample_conv"] = (True, "weights between levels")
    found: Found = {"R": {}, "D": conv, "_": {"resample_conv": (False, "weights between levels")}}[word[0]]
    if word[1] != "D":
        return {**found, "progressive_input": ("none", "no convolutions of images")}
    filtered = "Conv2d_0.weight" in body[1]
    width, *_, kernel = body[1]["Conv2d_0.weight" if filtered else "Conv_0.weight"]
    if kernel > 1:
        found["fir"] = (filtered, "the name of the convolutions of images")
        return {**found, "progressive_input": ("residual", "3x3 convolutions of images")}
    doubled = body[2].get("Conv_0.weight", Size((0, 0)))[1] == 2 * width
    found["progressive_combine"] = ("cat" if doubled else "sum", "width behind the convolutions of images")
    return {**found, "progressive_input": ("input_skip", "1x1 convolutions of images")}


def _check_attention(net: Config, size: int, facts: Facts) -> None:
    """Raise InputError if the original's resolutions with attention are others than those of the weights."""
    if (given := facts.given.get("attn_resolutions")) is None:
        return
    sizes = [size >> k for k in range(len(net["multipliers"]))]
    there = [sizes[k] for k in net["attention"]]
    refuse(
        set(there) != set(sizes) & set(given.value),
        f"{given.name}: {list(given.value)} was given, but by the weights it is {there} for images of {size}x{size}",
    )


def _sigmas(table: Tensor, facts: Facts) -> None:
    """The noise levels, which the original always keeps, from the largest to the smallest."""
    if table.ndim == 1 and len(table) > 1:
        digits = 10 if table.dtype.itemsize == 8 else 6
        facts.infer("sigma_max", float(f"{float(table[0]):.{digits}g}"), "sigmas")
        facts.infer("sigma_min", float(f"{float(table[-1]):.{digits}g}"), "sigmas")
        facts.infer("levels", len(table), "sigmas")


def _completed(net: Config, facts: Facts) -> Config:
    """With what cannot be inferred from shapes."""
    net = _CONSTANT | net
    if len(net["multipliers"]) > 1 and "fir" not in net:
        net["fir"] = bool(facts.need("fir", _REST))
    net["rescale"] = bool(facts.need("rescale", _REST))
    net["group_width"] = _group_width(facts, net)
    net["groups"] = int(facts.get("groups", 32))
    net["dropout"] = float(facts.get("dropout", 0.1))
    if net["noise"] == "fourier":
        net["fourier_scale"] = float(facts.get("fourier_scale", 16.0))
    both = net.setdefault("fir", False) and net.get("resample_conv", False)  # a step without weights has no filter
    refuse(both, "fir: fir=true with resblock_type=ddpm does not run in the original")
    return net


def _group_width(facts: Facts, net: Config) -> int:
    """Channels of a group."""
    if net["block"] == "biggan":
        return int(facts.get("group_width", 4))
    if "group_width" not in facts.given and min(net["multipliers"]) * net["channels"] >= 128:
        return int(facts.infer("group_width", 1, "widths of 128 and more have 32 groups in any case"))
    return int(facts.need("group_width", f"{_REST} (ddpm: 32 groups; ncsnpp: of 4 channels or more)"))
