"""`scoresde train`: the entry that Hydra calls; the work is in `scoresde.cli.fit`."""

from typing import Any

from omegaconf import DictConfig

from scoresde.cli.jobs import run_job

KEYS = (
    "seed",
    "device",
    "run",
    "init",
    "allow",
    "n",
    "sde",
    "model",
    "data",
    "loss",
    "optimizer",
    "trainer",
    "metrics",
    "logger",
    "samplers",
)


def task(cfg: DictConfig) -> float | None:
    """Train once; returns the figure that a sweeper should minimise."""
    return run_job(_work, cfg, KEYS)


def _work(cfg: dict[str, Any]) -> float | None:
    from scoresde.cli.fit import train  # torch comes with it, and only now

    return train(cfg)
