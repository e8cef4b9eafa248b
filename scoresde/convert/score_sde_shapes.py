"""What the shapes of a score_sde_pytorch checkpoint say about its network.

Every module of the list becomes a letter, and the down path is read from the word that they form:

    W frequencies   L linear layer   C convolution   N norm   A attention   _ no weights
    B residual block   R residual block between levels   D one convolution between levels, or of the image
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Size, Tensor

from scoresde.convert.plan import Config, Facts
from scoresde.errors import InputError

_REST = "give config= with the original's configuration, or the nearest of model=ncsnpp, ddpmpp, ddpm"
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
    noise = ("fourier" if found[1] else "positional") if found[2] else "none"
    values: Found = {
        "noise": (noise, "the layers in front of the first convolution"),
        "image_channels": (stem[1], f"all_modules.{start - 1}.weight"),
        "channels": (stem[0], f"all_modules.{start - 1}.weight"),
        **_ladder(body, found[3], stem[0]),
    }
    net = {key: facts.infer(key, value, source) for key, (value, source) in values.items()}
    size = int(facts.need("image_size", "give size= with the height and width of an image, or config="))
    _check_attention(net, size, facts)
    _sigmas(tensors, facts)
    shape = (net.pop("image_channels"), size, size)
    return shape, {"_target_": "scoresde.nets.NCSNpp", **net, **_rest(facts, net)}


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
    if {"GroupNorm_0.weight", "Conv_0.weight"} <= set(module):
        out, into = module["Conv_0.weight"][:2]
        return "R" if out == into and "Conv_2.weight" in module else "B"  # one between levels always has a projection
    if "NIN_3.W" in module:
        return "A"
    if {name.partition(".")[0] for name in module} in ({"Conv_0"}, {"Conv2d_0"}):
        return "D"
    if "weight" in module:
        return {1: "N", 2: "L", 4: "C"}.get(len(module["weight"]), "?")
    return "_" if not module else "W" if len(module.get("W", ())) == 1 else "?"


def _ladder(body: list[Shapes], word: str, channels: int) -> Found:
    """Levels, blocks, widths, attention, and the images that run beside the features."""
    count, spans = _levels(word)
    widths = [body[start]["Conv_0.weight"][0] for start, _ in spans]
    if any(w % channels for w in widths):
        raise InputError(f"checkpoint: widths {widths} are no multiples of {channels}, as in ncsnpp and ddpm")
    heads = word.count("N")
    if heads not in (1, len(widths)):
        raise InputError("checkpoint: progressive=residual cannot be converted; none and output_skip can")
    biggan = any("Conv_2.weight" in m for m in body)
    return {
        "block": ("biggan" if biggan else "ddpm", "Conv_2" if biggan else "NIN_0"),
        "multipliers": ([w // channels for w in widths], "the widths of residual blocks"),
        "blocks": (count, "blocks in front of the first step"),
        "attention": ([k for k, (start, end) in enumerate(spans) if "A" in word[start:end]], "NIN_3"),
        "progressive_output": ("output_skip" if heads > 1 else "none", f"{heads} norms at the ends of levels"),
        **({} if len(spans) == 1 else _step(body[spans[0][1] :], word[spans[0][1] :])),
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
    found: Found = {}
    if word[0] != "R":
        found["resample_conv"] = (word[0] == "D", "weights between levels")
    if word[0] == "D":
        found["fir"] = ("Conv2d_0.weight" in body[0], "the name of the convolution between levels")
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
    given = facts.given.get("attn_resolutions")
    there = [size >> k for k in net["attention"]]
    if given and there != [size >> k for k in range(len(net["multipliers"])) if size >> k in given.value]:
        raise InputError(
            f"{given.name}: {list(given.value)} was given, but by the weights it is {there} for images of {size}x{size}"
        )


def _sigmas(tensors: Mapping[str, Tensor], facts: Facts) -> None:
    """The table of noise levels, which the original always keeps, from the largest to the smallest."""
    if (table := tensors.get("sigmas")) is None or table.ndim != 1 or len(table) < 2:
        return
    digits = 10 if table.dtype.itemsize == 8 else 6
    facts.infer("sigma_max", float(f"{float(table[0]):.{digits}g}"), "sigmas")
    facts.infer("sigma_min", float(f"{float(table[-1]):.{digits}g}"), "sigmas")
    facts.infer("levels", len(table), "sigmas")


def _rest(facts: Facts, net: Config) -> Config:
    """What cannot be inferred from shapes."""
    ddpm, steps = net["block"] == "ddpm", len(net["multipliers"]) > 1
    rest: Config = {"attention_up": "last", "head_width": 0, "noise_scale": 1.0, "noise_shift": 0.0}
    rest["fir"] = net["fir"] if "fir" in net else bool(steps and facts.need("fir", _REST))
    rest["rescale"] = bool(facts.need("rescale", _REST))
    rest["group_width"] = _group_width(facts, net) if ddpm else int(facts.get("group_width", 4))
    rest["groups"] = int(facts.get("groups", 32))
    rest["progressive_input"] = net.get("progressive_input", "none")
    rest["dropout"] = float(facts.get("dropout", 0.1))
    if net["noise"] == "fourier":
        rest["fourier_scale"] = float(facts.get("fourier_scale", 16.0))
    if rest["fir"] and ddpm and steps and net.get("resample_conv"):
        raise InputError("fir: fir=true with resblock_type=ddpm does not run in the original")
    return rest


def _group_width(facts: Facts, net: Config) -> int:
    """Channels of a group of a network of DDPM's blocks."""
    if "group_width" not in facts.given and min(net["multipliers"]) * net["channels"] >= 128:
        return int(facts.infer("group_width", 1, "widths of 128 and more have 32 groups in any case"))
    return int(facts.need("group_width", f"{_REST} (ddpm: 32 groups; ncsnpp: of 4 channels or more)"))
