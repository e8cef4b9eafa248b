"""From a foreign file to a folder that `scoresde.load` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from scoresde.build import TARGET, build
from scoresde.convert import adm, diffusers, edm, score_sde
from scoresde.convert.facts import Facts, Given
from scoresde.convert.files import read_file, read_settings
from scoresde.convert.parts import Tensors, read
from scoresde.convert.plan import Layout, Plan
from scoresde.convert.report import Report
from scoresde.convert.writer import write_run
from scoresde.errors import InputError, require

_LAYOUTS: tuple[Layout, ...] = (diffusers, score_sde, edm, adm)
_SDES = {"VESDE": "vesde", "VPSDE": "vpsde", "SubVPSDE": "subvpsde"}


def convert(
    file: str | Path,
    out: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    weights: Literal["ema", "raw"] = "ema",
    size: int | None = None,
    sde: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    typed: Sequence[str] = (),
) -> Report:
    """Convert foreign weights into a folder that `scoresde.load`, and every command with `run=`, can use.

    Args:
        file: a checkpoint of score_sde_pytorch (.pth), a state dict of EDM's networks or of ADM (.pt, .pth,
            .safetensors, .npz), or a folder of diffusers.
        out: the folder to make; its parent must be there, it must not.
        config: the original's configuration as a mapping, or a JSON or YAML file of it.
        weights: the moving averages, where there are any, or the raw weights.
        size: height and width of an image, which no network of this kind tells.
        sde, model, data: configurations as `scoresde train` has them. What the weights tell wins over them.
        typed: dotted keys among these, such as `model.net.channels`, that were typed on purpose: where the weights
            contradict them, the conversion is refused.

    Returns:
        What was converted, and what was inferred, given and assumed; it is in `<out>/convert.json` too.

    Raises:
        InputError: one line that says what is missing, left over, contradictory or not to be had. Nothing is left
            behind then.
    """
    require(weights in ("ema", "raw"), "weights", weights, "give ema or raw")
    target = Path(out).expanduser()
    if target.exists():
        raise InputError(f"out: {target} is there already; give the name of a new folder")
    source = read_file(file)
    settings = {} if config is None else dict(config) if isinstance(config, Mapping) else read_settings(config)
    layout = next((known for known in _LAYOUTS if known.matches(source)), None)
    if layout is None:
        raise InputError(f"file: {source.path} holds no layout that is known here ({_some(source.raw)})")
    own = _given(size, sde, model, set(typed))
    facts = Facts({**own, **layout.given_by(settings), **{k: value for k, value in own.items() if value.firm}})
    try:
        plan, averages = layout.plan(source, facts), layout.averaged(source)
    except InputError:
        raise
    except KeyError as error:  # a tensor without which nothing can be told
        raise InputError(
            f"file: {source.path} has no {error.args[0]}, so it is not whole, or of another layout"
        ) from None
    except (IndexError, ValueError) as error:
        raise InputError(f"file: {source.path} has tensors of shapes that no such network has ({error})") from None
    net = _network(plan)
    parts = plan.parts(net)
    sets = {"raw": read(parts, plan.prepare(source.raw), net.state_dict())}
    if averages is not None:
        sets["ema"] = read(parts, plan.prepare(averages), net.state_dict())
    used = weights if "ema" in sets else "single"
    chosen = sets.get(weights, sets["raw"])
    report = Report(
        str(source.path),
        layout.NAME,
        used,
        len(parts),
        sum(p.numel() for p in net.parameters()),
        facts.by_origin("inferred"),
        facts.by_origin("given"),
        facts.by_origin("assumed"),
        plan.dropped,
        plan.notes,
        {k: v for k, v in source.settings.items() if isinstance(v, int | float)},
    )
    write_run(target, plan, chosen, sets["raw"] if weights == "ema" else chosen, report, data)
    return report


def _some(tensors: Tensors) -> str:
    names = list(tensors)
    return f"its tensors are {', '.join(names[:3])}, ..."


def _network(plan: Plan) -> nn.Module:
    """Our network; its first weights are never seen, so they are not drawn."""
    with torch.random.fork_rng(devices=[]):
        net: nn.Module = build(plan.net, "model.net", event_shape=plan.event_shape)
    return net


def _given(
    size: int | None, sde: Mapping[str, Any] | None, model: Mapping[str, Any] | None, typed: set[str]
) -> dict[str, Given]:
    """What was given in the words of this project."""
    found = {} if size is None else {"image_size": Given(size, "size")}
    for key, value in (sde or {}).items():
        if key == TARGET:
            name = str(value).rpartition(".")[2]
            found["sde"] = Given(_SDES.get(name, name), "sde")
        elif value != "measured":
            found[key] = Given(value, f"sde.{key}", f"sde.{key}" in typed)
    for key, value in ((model or {}).get("net") or {}).items():
        if key != TARGET:
            found[key] = Given(value, f"model.net.{key}", f"model.net.{key}" in typed)
    return found
