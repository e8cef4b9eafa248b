"""A run on disk: its folder, its configuration and results, and the model in it.

    <run>/.lock         held while a program writes here
    <run>/config.yaml   resolved, without secrets: plain values, no references
    <run>/summary.json  results of the final samples
    <run>/checkpoints/  see `scoresde.training.checkpoint`

A folder may come from somebody else: reading it constructs no class that its reader has not allowed.
"""

from scoresde._secrets import without_secrets
from scoresde.runs.config import CONVERTED, read_config, section, write_config
from scoresde.runs.folder import (
    CONFIG,
    SUMMARY,
    holds_run,
    locked,
    new_folder,
    setting,
    timestamp,
    versions,
    write_json,
    write_text,
)
from scoresde.runs.measured import measured
from scoresde.runs.run import Run, load, pick_device
from scoresde.runs.upgrade import upgraded

__all__ = [
    "CONFIG",
    "CONVERTED",
    "SUMMARY",
    "Run",
    "holds_run",
    "load",
    "locked",
    "measured",
    "new_folder",
    "pick_device",
    "read_config",
    "section",
    "setting",
    "timestamp",
    "upgraded",
    "versions",
    "without_secrets",
    "write_config",
    "write_json",
    "write_text",
]
