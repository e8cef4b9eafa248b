"""The files of Weights & Biases in the folder of a run: what earlier sessions have logged."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scoresde.loggers.metrics_file import number

_CLOCK = "_per_second"  # ending of what is another value each time that it is measured
_WORDS = ("NaN", "Infinity", "-Infinity")
_WAIT = 60.0  # seconds for reading a file


def files_of(folder: Path, run_id: str | None) -> list[Path]:
    """The files of the sessions of a run in their order; None for the id of the last run in the folder."""
    return sorted(folder.glob(f"*run-*/run-{run_id or '*'}.wandb"), key=lambda file: file.parent.name.split("run-")[1])


def known_rows(files: Sequence[Path]) -> set[str]:
    """The `identity` of each row in files of W&B, as its own reader finds them, also in files that a kill has cut."""
    return {identity(row) for file in files for row in _history(file)}


def identity(row: Mapping[str, Any]) -> str:
    """What a row is recognised by: its step and its values, but for speeds, which are measured again."""
    return json.dumps({key: number(value) for key, value in sorted(row.items()) if not key.endswith(_CLOCK)})


def _history(file: Path) -> Iterator[dict[str, Any]]:
    from wandb.util import get_core_path

    options = ["--no-observability", "--json", "--run-file", str(file), str(file.parents[1])]
    done = subprocess.run([get_core_path(), "leet", "inspect", *options], capture_output=True, text=True, timeout=_WAIT)
    if done.returncode == 2:
        raise OSError(f"its reader has other options: {done.stderr[:100]}")
    records = (json.loads(line) for line in done.stdout.splitlines() if '"history"' in line)
    for row in (record["history"]["item"] for record in records if record["type"] == "history"):
        values = {key: value for key, value in row.items() if key[0] != "_"}
        if all(isinstance(value, int | float) or value in _WORDS for value in values.values()):  # but of no picture
            yield values
