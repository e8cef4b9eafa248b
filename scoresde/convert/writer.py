"""A converted model as a run on disk, and the report of what was done."""

import inspect
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scoresde import runs
from scoresde.build import TARGET, resolve
from scoresde.convert.parts import Tensors
from scoresde.convert.plan import Config, Plan
from scoresde.data import Transform
from scoresde.errors import InputError
from scoresde.training import checkpoint


@dataclass
class Report:
    """The account of one conversion.

    Attributes:
        file: where the weights came from.
        layout: score_sde, edm, adm or diffusers.
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
    if target.exists():
        raise InputError(f"out: {target} already exists; give the name of a new folder")
    return target


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` at the end, so that it exists complete or not at all.

    Raises:
        InputError: it cannot be written.
    """
    aside = target.with_name(f".tmp-{target.name}-{os.getpid()}")
    try:
        aside.mkdir()
        yield aside
        aside.rename(target)
    except OSError as error:
        raise InputError(f"out: {target} cannot be made ({error}); give a new folder in one that exists") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_run(
    out: Path, plan: Plan, chosen: Tensors, raw: Tensors, report: Report, data: Mapping[str, Any] | None
) -> None:
    """Write the folder of a run.

    Raises:
        InputError: it cannot be written.
    """
    step = int(report.beside.get("step", 0))
    state = {"data": {"transform": transform(plan).to_dict()}, "converted": True}
    sets = {name: {f"net.{k}": t for k, t in tensors.items()} for name, tensors in (("ema", chosen), ("model", raw))}
    config = {"sde": _complete(plan.sde), "model": {**_complete(plan.model), "net": _complete(plan.net)}}
    config |= {"data": dict(data)} if data else {}
    with whole(out) as aside:
        runs.write_config(aside, config)
        runs.write_json(aside / runs.CONVERTED, {**report.to_dict(), "versions": runs.versions()})
        checkpoint.save(aside, checkpoint.Checkpoint(step, sets, {}, state))


def _complete(cfg: Config) -> Config:
    """With the arguments that were left out, so that the folder does not depend on what the defaults will be."""
    parameters = inspect.signature(resolve(cfg[TARGET])).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {**cfg, **{k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items() if k not in cfg}}


def transform(plan: Plan) -> Transform:
    """Pixels from 0 to 255 in the units of the original: [-1, 1], or [0, 1] where it did not center its data."""
    half = 127.5 if plan.centered else 0.0
    scale = 127.5 if plan.centered else 255.0
    return Transform("image", plan.event_shape, half, scale, low=0.0, high=255.0, levels=256, dtype="uint8")
