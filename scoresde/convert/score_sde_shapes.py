"""What the shapes of a score_sde_pytorch checkpoint tell of its network."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Size, Tensor

from scoresde.convert.facts import Facts
from scoresde.convert.plan import Config
from scoresde.errors import InputError

_REST = "give config= with the original's configuration, or the nearest of model=ncsnpp, ddpmpp, ddpm"
Shapes = dict[str, Size]  # of one module of the list, by the rest of the name


def infer(tensors: Mapping[str, Tensor], facts: Facts) -> tuple[tuple[int, int, int], Config]:
    """The shape of an image and the configuration of our network.

    Raises:
        InputError: the list of modules is not that of such a network, or a value is not known.
    """
    modules = _modules(tensors)
    start, net = _noise(modules, facts)
    stem = modules[start].get("weight", Size())
    if len(stem) != 4:
        raise InputError(f"checkpoint: all_modules.{start} is not a convolution, so this is no ncsnpp and no ddpm")
    pictures = facts.infer("pictures", stem[1], f"all_modules.{start}.weight")
    net["channels"] = facts.infer("channels", stem[0], f"all_modules.{start}.weight")
    net |= _ladder(modules[start + 1 :], stem[0], facts)
    size = int(facts.need("image_size", "give size= with the height and width of an image, or config="))
    _check_attention(net, size, facts)
    _sigmas(tensors, facts)
    net |= _rest(facts, net)
    return (pictures, size, size), {"_target_": "scoresde.nets.NCSNpp", **net}


def _modules(tensors: Mapping[str, Tensor]) -> list[Shapes]:
    """The shapes of each module of the list; those without weights are empty."""
    found: dict[int, Shapes] = {}
    for name, tensor in tensors.items():
        matched = re.fullmatch(r"all_modules\.(\d{1,5})\.(.+)", name)
        if matched:
            found.setdefault(int(matched[1]), {})[matched[2]] = tensor.shape
    return [found.get(i, {}) for i in range(max(found) + 1)]


def _noise(modules: list[Shapes], facts: Facts) -> tuple[int, Config]:
    """The number of the first convolution, and what comes before it."""
    start = 0
    fourier = len(modules[0].get("W", ())) == 1
    start += fourier
    linear = len(modules) > start and len(modules[start].get("weight", ())) == 2
    if not linear:
        return start, {"noise": facts.infer("noise", "none", "no layers over features of the noise level")}
    kind = "fourier" if fourier else "positional"
    return start + 2, {"noise": facts.infer("noise", kind, f"all_modules.0.{'W' if fourier else 'weight'}")}


def _is_block(module: Shapes) -> bool:
    return "GroupNorm_0.weight" in module and "Conv_0.weight" in module


def _is_attention(module: Shapes) -> bool:
    return "NIN_3.W" in module


def _keeps(module: Shapes) -> bool:
    """Whether it is a residual block within a level; one between levels has a projection though it keeps its width."""
    if not _is_block(module):
        return False
    out, into = module["Conv_0.weight"][:2]
    return out != into or "Conv_2.weight" not in module


def _conv(module: Shapes) -> str | None:
    """The name of the convolution, if that is all there is: a step between levels, or the picture on its way in."""
    names = {name.partition(".")[0] for name in module}
    return names.pop() if len(names) == 1 and names <= {"Conv_0", "Conv2d_0"} else None


def _ladder(body: list[Shapes], nf: int, facts: Facts) -> Config:
    """Levels, blocks, widths, attention, and the pictures that run beside the features."""
    kept = [i for i, m in enumerate(body) if _keeps(m)]
    first = next((i for i, m in enumerate(body) if not _keeps(m) and not _is_attention(m)), 0)
    above = any(
        _is_block(m) or _conv(m) or not m for m in body[first : first + 1]
    )  # the head comes first if there is one level
    count = sum(i < first for i in kept) if above else (len(kept) - 3) // 2
    if count < 1:
        raise InputError("checkpoint: all_modules begins with no residual blocks, so this is no ncsnpp and no ddpm")
    widths: list[int] = []
    attention: list[int] = []
    place = 0
    found: dict[str, tuple[Any, str]] = {}
    while True:
        place = _level(body, place, count, len(widths), widths, attention)
        if not above or place >= len(body) or _keeps(body[place]):
            break  # the middle of the network begins
        found |= _between(body, place)
        place += 1 + bool(_conv(_at(body, place + 1)))
    if any(w % nf for w in widths):
        raise InputError(f"checkpoint: widths {widths} are no multiples of {nf}, so this is no ncsnpp and no ddpm")
    biggan = any("Conv_2.weight" in m for m in body)
    found["block"] = ("biggan" if biggan else "ddpm", "Conv_2" if biggan else "NIN_0")
    found["multipliers"] = ([w // nf for w in widths], f"{len(kept)} residual blocks within levels")
    found["blocks"], found["attention"] = (count, "blocks in front of the first step"), (attention, "NIN_3")
    heads = sum(len(m.get("weight", ())) == 1 for m in body)
    if heads not in (1, len(widths)):
        raise InputError("checkpoint: progressive=residual cannot be converted; none and output_skip can")
    found["progressive_output"] = ("output_skip" if heads > 1 else "none", f"{heads} norms at the ends of levels")
    if above:
        found.setdefault("progressive_input", ("none", "no convolutions of pictures"))
    return {key: facts.infer(key, value, source) for key, (value, source) in found.items()}


def _at(body: list[Shapes], place: int) -> Shapes:
    return body[place] if place < len(body) else {}


def _level(body: list[Shapes], place: int, count: int, level: int, widths: list[int], attention: list[int]) -> int:
    """Read the blocks of a level, and return the place behind them."""
    for i in range(count):
        if not _keeps(_at(body, place)):
            raise InputError(f"checkpoint: level {level} has {i} residual blocks in place of {count}")
        attends = _is_attention(_at(body, place + 1))
        if i == 0:
            widths.append(body[place]["Conv_0.weight"][0])
            attention += [level] * attends
        place += 1 + attends
    return place


def _between(body: list[Shapes], place: int) -> dict[str, tuple[Any, str]]:
    """What the step to the next level, at `place`, tells, and the picture that may come in behind it."""
    found: dict[str, tuple[Any, str]] = {}
    step, side = body[place], _at(body, place + 1)
    if not _is_block(step):
        found["resample_conv"] = (bool(step), "Conv_0 between levels" if step else "no weights between levels")
        if step:
            found["fir"] = (_conv(step) == "Conv2d_0", "the name of the convolution between levels")
    if not (name := _conv(side)):
        return found
    kernel = side[f"{name}.weight"]
    if kernel[-1] == 1:
        following = _at(body, place + 2).get("Conv_0.weight", Size((0, 0)))
        found["progressive_input"] = ("input_skip", "1x1 convolutions of pictures")
        found["progressive_combine"] = ("cat" if following[1] == 2 * kernel[0] else "sum", "width behind them")
    else:
        found["progressive_input"] = ("residual", "3x3 convolutions of pictures")
        found["fir"] = (name == "Conv2d_0", "the name of the convolutions of pictures")
    return found


def _check_attention(net: Config, size: int, facts: Facts) -> None:
    given = facts.given("attn_resolutions")
    if given is None or not given.firm:
        return
    told = [k for k in range(len(net["multipliers"])) if size >> k in given.value]
    if told != net["attention"]:
        there = [size >> k for k in net["attention"]]
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
    """What no shape tells."""
    rest: Config = {"attention_up": "last", "head_width": 0, "noise_scale": 1.0, "noise_shift": 0.0}
    steps = len(net["multipliers"]) > 1
    if "fir" not in net:
        rest["fir"] = bool(facts.need("fir", _REST)) if steps else False
    rest["rescale"] = bool(facts.need("rescale", _REST))
    if (
        net["block"] == "ddpm"
        and facts.given("group_width") is None
        and min(net["multipliers"]) * net["channels"] >= 128
    ):
        facts.infer("group_width", 1, "widths of 128 and more have 32 groups in any case")
        rest["group_width"] = 1
    elif net["block"] == "ddpm":
        rest["group_width"] = int(
            facts.need("group_width", f"{_REST} (ddpm: 32 groups; ncsnpp: of 4 channels or more)")
        )
    else:
        rest["group_width"] = int(facts.get("group_width", 4, "that of ncsnpp"))
    rest["groups"] = int(facts.get("groups", 32, "usual"))
    rest["progressive_input"] = net.get("progressive_input", "none")
    rest["dropout"] = float(facts.get("dropout", 0.1, "usual; for training only"))
    if net["noise"] == "fourier":
        rest["fourier_scale"] = float(facts.get("fourier_scale", 16.0, "usual; the frequencies are in the file"))
    if rest.get("fir", net.get("fir")) and net["block"] == "ddpm" and steps and net.get("resample_conv"):
        raise InputError(
            "fir: the original cannot run fir=true with resblock_type=ddpm, so such weights are not converted"
        )
    return rest
