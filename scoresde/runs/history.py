"""What was changed when a training was resumed: <run>/history.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoresde._secrets import without_secrets
from scoresde.build import within
from scoresde.errors import refuse
from scoresde.files import read_json, write_json
from scoresde.plain import from_yaml, to_yaml
from scoresde.runs.config import CACHE, leaves, read_config
from scoresde.runs.folder import HISTORY

_ASIDE = ("allow", "logger")  # which are no settings of the training


def record_changes(run: Path, step: int, cfg: Mapping[str, Any]) -> None:
    """Add the settings that differ from the stored ones, with both values, to the history; nothing if none do.

    What is recorded twice at one step, since the first attempt was killed, is one entry.
    """
    stored, given = dict(leaves(read_config(run))), dict(leaves(from_yaml(to_yaml(without_secrets(cfg)))))
    keys = (key for key in {**stored, **given} if not within(key, _ASIDE) and key.rpartition(".")[2] != CACHE)
    changed = {key: [stored.get(key), given.get(key)] for key in keys if stored.get(key) != given.get(key)}
    if not changed:
        return
    entries = history(run)
    if entries and entries[-1]["step"] == step:
        former = entries.pop()["changed"]
        changed = former | {k: [former.get(k, values)[0], values[1]] for k, values in changed.items()}
    write_json(run / HISTORY, {"resumed": [*entries, {"step": step, "changed": changed}]})


def history(run: Path) -> list[dict[str, Any]]:
    """Each resume with other settings: its `step`, and `changed`, which holds [before, after] by name."""
    file = run / HISTORY
    entries: list[dict[str, Any]] = read_json(file, "run").get("resumed") or [] if file.is_file() else []
    listed = isinstance(entries, list) and all(map(_is_entry, entries))
    refuse(not listed, f"run: {file} does not list the changes at each resume; delete it")
    return entries


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and "step" in entry and isinstance(entry.get("changed"), dict)
