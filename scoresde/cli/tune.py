"""`scoresde tune`: the entry that Hydra calls; the work is in `scoresde.cli.tuner`."""

from typing import Any

from omegaconf import DictConfig

from scoresde.cli.jobs import run_job

KEYS = ("run", "sampler", "tune", "seed", "device", "checkpoint", "weights", "label", "guidance", "allow")


def task(cfg: DictConfig) -> float | None:
    """Tune once; the figure is the mean endpoint error on held-out noise."""
    return run_job(_work, cfg, KEYS)


def _work(cfg: dict[str, Any]) -> float:
    from scoresde.cli.tuner import tune  # torch comes with it, and only now

    return tune(cfg)
