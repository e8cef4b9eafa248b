"""The files of Weights & Biases in the folder of a run: what earlier sessions have logged, and a record of media."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scoresde.files import write_text
from scoresde.loggers.metrics_file import number, step_of

_CLOCK = ("_per_second", "seconds", "seconds_half")  # endings of what is another value each time that it is measured
_WORDS = ("NaN", "Infinity", "-Infinity")
_WAIT = 60.0  # seconds for reading a file
_MEDIA = "media.jsonl"

Medium = dict[str, Any]  # `step` and `name`; `path` and `sha256` of a picture, `columns` and `data` of a table


def files_of(folder: Path, run_id: str | None) -> list[Path]:
    """The files of the sessions of a run in their order; None for the id of the last run in the folder."""
    return sorted(folder.glob(f"*run-*/run-{run_id or '*'}.wandb"), key=lambda file: file.parent.name.split("run-")[1])


def known_rows(files: Sequence[Path]) -> set[str]:
    """The `identity` of each row in files of W&B, as its own reader finds them, also in files that a kill has cut."""
    return {identity(row) for file in files for row in _history(file)}


def identity(row: Mapping[str, Any]) -> str:
    """What a row or a medium is recognised by: its step and what it shows, without what a clock has measured."""
    if "data" in row:
        shown = [i for i, column in enumerate(row["columns"]) if not column.endswith(_CLOCK)]
        return json.dumps([row["name"], row["step"], *([line[i] for i in shown] for line in row["data"])])
    if "sha256" in row:
        return json.dumps([row["name"], row["step"], row["sha256"]])
    return json.dumps({key: number(value) for key, value in sorted(row.items()) if not key.endswith(_CLOCK)})


def picture(folder: Path, name: str, path: Path, step: int) -> Medium:
    """A picture of the run in this folder."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"step": step, "name": name, "path": os.path.relpath(path, folder), "sha256": digest}


def keep(folder: Path, medium: Medium) -> None:
    """Record a medium in the folder of a run before it is logged."""
    with (folder / "wandb" / _MEDIA).open("a", encoding="utf-8") as file:
        file.write(json.dumps(medium) + "\n")


def kept(folder: Path, step: int) -> list[Medium]:
    """The media of a run up to a step of which all is still there; others are forgotten."""
    file = folder / "wandb" / _MEDIA
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""  # older versions had none
    before = [line for line in text.splitlines() if step_of(line) <= step and _whole(json.loads(line))]
    if (left := "".join(line + "\n" for line in before)) != text:
        write_text(file, left)
    return [one for one in map(json.loads, before) if "data" in one or _same(folder, one)]


def _whole(one: Medium) -> bool:
    """Whether a line has all of a medium, as one that a kill has cut has not."""
    return {"name", "columns", "data"} <= one.keys() or {"name", "path", "sha256"} <= one.keys()


def _same(folder: Path, one: Medium) -> bool:
    """Whether a picture is what it was, inside of a folder that may be a stranger's."""
    path = folder / one["path"]
    inside = path.resolve().is_relative_to(folder.resolve())
    return inside and path.is_file() and picture(folder, one["name"], path, one["step"]) == one


def _history(file: Path) -> Iterator[dict[str, Any]]:
    from wandb.util import get_core_path

    options = ["--no-observability", "--json", "--run-file", str(file), str(file.parents[1])]
    done = subprocess.run([get_core_path(), "leet", "inspect", *options], capture_output=True, text=True, timeout=_WAIT)
    if done.returncode == 2:
        raise OSError(f"its reader has other options: {done.stderr[:100]}")
    records = (json.loads(line) for line in done.stdout.splitlines() if '"history"' in line)
    for row in (record["history"]["item"] for record in records if record["type"] == "history"):
        values = {key: value for key, value in row.items() if key[0] != "_"}
        if all(isinstance(value, int | float) or value in _WORDS for value in values.values()):
            yield values
        elif name := next((key.removesuffix("._type") for key in values if key.endswith("._type")), None):
            yield _medium(file.parent / "files", name, values)


def _medium(files: Path, name: str, row: Mapping[str, Any]) -> Medium:
    """What W&B has logged, of a table as it lies beside its record."""
    about = {"step": row["step"], "name": name}
    path = files / row[f"{name}.path"]
    if row[f"{name}._type"] == "table-file" and path.is_file():
        return {**json.loads(path.read_text(encoding="utf-8")), **about}
    return {**about, "sha256": row[f"{name}.sha256"]}
