"""`scoresde sample`: the entry that Hydra calls; the work is in `scoresde.cli.draw`."""

from typing import Any

from omegaconf import DictConfig

from scoresde.cli.jobs import run_job

KEYS = (
    "run",
    "n",
    "seed",
    "device",
    "out",
    "checkpoint",
    "weights",
    "batch_size",
    "label",
    "guidance",
    "allow",
    "sampler",
)


def task(cfg: DictConfig) -> None:
    """Sample once."""
    run_job(_work, cfg, KEYS)


def _work(cfg: dict[str, Any]) -> None:
    from scoresde.cli.draw import sample  # torch comes with it, and only now

    sample(cfg)
