"""From a foreign file to a folder that `scoresde.load` reads, and the report of what was done."""

import glob
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from scoresde import runs
from scoresde.build import MEASURED, TARGET, build
from scoresde.constraints import require_allowed
from scoresde.convert.adm import ADM
from scoresde.convert.config import lookup
from scoresde.convert.denoising_diffusion import DenoisingDiffusion
from scoresde.convert.diffusers import Diffusers
from scoresde.convert.dit import DiffusersDiT, DiTs
from scoresde.convert.edm import EDM
from scoresde.convert.edm2 import EDM2s
from scoresde.convert.files import Source, read_file, read_settings
from scoresde.convert.parts import Tensors, read
from scoresde.convert.plan import Facts, Given, Layout, Plan
from scoresde.convert.score_sde import ScoreSDE
from scoresde.data import Transform
from scoresde.described import describe
from scoresde.errors import InputError, one_line, refuse
from scoresde.files import held, of_the_disk, remove_abandoned
from scoresde.training import checkpoint


@dataclass
class Report:
    """The account of one conversion.

    Attributes:
        file: where the weights came from.
        layout: score_sde, edm, edm2, adm, dit, denoising_diffusion or diffusers.
        weights: `ema`, `raw`, or `single` where the file holds one set only.
        tensors: foreign tensors used.
        parameters: of our network.
        inferred: settings that follow from the weights.
        given: settings that were given.
        assumed: settings at their defaults.
        dropped: tensors that are not used, and why.
        notes: what else to know.
        beside: what else the file holds, such as the training step.
    """

    file: str
    layout: str
    weights: str
    tensors: int
    parameters: int
    inferred: dict[str, Any]
    given: dict[str, Any]
    assumed: dict[str, Any]
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    beside: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        sets = {"ema": "moving averages", "raw": "raw weights", "single": "the one set of weights there is"}
        lines = [
            f"{self.layout}: {self.tensors} tensors of {self.file} became {self.parameters:,} parameters",
            f"weights    {sets[self.weights]}",
        ]
        for name in ("inferred", "given", "assumed"):
            values = getattr(self, name)
            if values:
                lines.append(f"{name:<10} {', '.join(f'{k}={_short(v)}' for k, v in values.items())}")
        lines += [f"not used   {name}: {why}" for name, why in self.dropped.items()]
        lines += [f"note       {note}" for note in self.notes]
        return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")


def free_folder(out: str | Path) -> Path:
    """The path of a folder that does not exist yet; raises InputError otherwise."""
    target = Path(out).expanduser()
    refuse(target.exists(), f"out: {target} already exists; give the name of a new folder")
    return target


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` at the end, so that it exists complete or not at all.

    Those of killed programs are removed.

    Raises:
        InputError: it cannot be written.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    remove_abandoned(target.parent, f".{glob.escape(target.name)}")
    try:
        aside.mkdir()
        with held(aside):
            yield aside
            aside.rename(target)
    except (OSError, InputError) as error:  # the latter from a file within
        cause = error.__cause__ or error
        reason = getattr(cause, "strerror", None) or one_line(cause)
        raise InputError(f"out: {target} cannot be made ({reason}); make room, or give another folder") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


_MOST_COLOURS = 3  # channels of an image
_LAYOUTS: tuple[Layout, ...] = (DiffusersDiT(), Diffusers(), ScoreSDE(), EDM2s(), EDM(), ADM(), DiTs())
_LAYOUTS += (DenoisingDiffusion(),)


@of_the_disk()
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
        file: a checkpoint of score_sde_pytorch (.pth), one of denoising-diffusion-pytorch (.pt), a state dict
            of EDM, EDM2, ADM or DiT (.pt, .pth, .safetensors, .npz), or a folder of diffusers.
        out: the folder to make; its parent must exist, it must not.
        config: the original's configuration as a mapping, or a JSON or YAML file of it.
        weights: the moving averages, where there are any, or the raw weights.
        size: height and width of an image, which cannot be inferred from the weights.
        sde: configuration of the SDE as `scoresde train` has it; the weights win over it.
        model: configuration of the model, likewise.
        data: configuration of the data, which is stored with the run.
        typed: dotted keys of these configurations, such as `model.net.channels`, that were given on purpose: where
            the weights contradict them, the conversion is refused.

    Returns:
        What was converted, and what was inferred, given and assumed; also written to `<out>/convert.json`.

    Raises:
        InputError: one line that says what is missing, left over, contradictory or not supported. Nothing is left
            behind then.
    """
    require_allowed("weights", weights, Literal["ema", "raw"])
    target, source, settings = free_folder(out), read_file(file), read_settings(config)
    layout, own = _layout(source), _given(size, {"sde": sde, "model": model}, typed)
    firm = {key: value for key, value in own.items() if value.firm}
    facts = Facts({**own, **layout.given(settings), **firm})
    with _one_line(source):
        plan, averages = layout.plan(source, facts), layout.averages(source)
    with torch.random.fork_rng(devices=[]):  # the first weights are never used
        net: nn.Module = build(plan.net, "model.net", event_shape=plan.event_shape)
    parts, state = list(plan.names.parts(net)), net.state_dict()
    with _one_line(source):
        sets = {"raw": read(parts, plan.prepared(source.raw), state)}
        if averages is not None:
            sets["ema"] = read(parts, plan.prepared(averages), state)
    report = Report(
        file=str(source.path),
        layout=layout.name,
        weights="single" if averages is None else weights,
        tensors=len(parts),
        parameters=sum(p.numel() for p in net.parameters()),
        inferred=facts.inferred,
        given=facts.used,
        assumed=facts.assumed,
        dropped=plan.dropped,
        notes=plan.notes,
        beside=source.beside,
    )
    chosen = {"ema": sets.get(weights, sets["raw"]), "model": sets["raw"]}
    _write(target, plan, net, chosen, report, {"data": dict(data)} if data else {})
    return report


def _layout(source: Source) -> Layout:
    """The layout of a file."""
    for layout in _LAYOUTS:
        if layout.matches(source):
            return layout
    names = ", ".join(list(source.raw)[:3])
    raise InputError(f"file: {source.path} holds no layout that is known here (its tensors are {names}, ...)")


def _given(size: int | None, config: Mapping[str, Any], typed: Sequence[str]) -> dict[str, Given]:
    """What was given in the words of this project."""
    found = {} if size is None else {"image_size": Given(size, "size")}
    for section in ("sde", "model.net"):
        for key, value in (lookup(config, section) or {}).items():
            name = f"{section}.{key}"
            if name == f"sde.{TARGET}":
                found["sde"] = Given(str(value).rpartition(".")[2].lower(), "sde")
            elif value != MEASURED:
                found[key] = Given(value, name, name in typed)
    return found


@contextmanager
def _one_line(source: Source) -> Iterator[None]:
    """Refuse a file of which something is missing, or has another shape, in one line."""
    try:
        yield
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"file: {source.path} has no {error.args[0]}: incomplete or of another layout") from None
    except (IndexError, ValueError, RuntimeError) as error:
        raise InputError(f"file: {source.path} has tensors of impossible shapes ({error})") from None


def _write(
    out: Path, plan: Plan, net: nn.Module, sets: Mapping[str, Tensors], report: Report, data: Mapping[str, Any]
) -> None:
    """Write the folder of a run, with every argument, so that it does not depend on what the defaults will be.

    Raises:
        InputError: it cannot be written.
    """
    sde = build(plan.sde, "sde")
    model = describe(build(plan.model, "model", net=net, sde=sde))
    # pixels from 0 to 255 in the units of the original
    mean, scale = (127.5, 127.5) if plan.centered else (0.0, 255.0)
    transform = replace(Transform.of_levels(plan.event_shape), mean=mean, scale=scale)
    if plan.event_shape[0] > _MOST_COLOURS:
        transform = Transform("image", plan.event_shape)
        report.notes.append(f"{plan.event_shape[0]} channels are latents of an autoencoder: their units are kept")
    state = {"data": {"transform": transform.to_dict()}, "converted": True}
    modules = {name: {f"net.{k}": t for k, t in tensors.items()} for name, tensors in sets.items()}
    with whole(out) as aside:
        runs.write_config(aside, {"sde": describe(sde), "model": model, **data})
        runs.write_json(aside / runs.CONVERTED, {**report.to_dict(), "versions": runs.versions()})
        checkpoint.save(aside, checkpoint.Checkpoint(int(report.beside.get("step", 0)), modules, {}, state))
