"""`scoresde compare`: the entry that Hydra calls; the work is in `scoresde.cli.contest`."""

from typing import Any

from omegaconf import DictConfig

from scoresde.cli.jobs import run_job

KEYS = (
    *("run", "problem", "folder", "solvers", "budgets", "tolerances", "sde", "sdes", "n", "seed", "seeds"),
    *("reference", "batch_size", "dtype", "device", "checkpoint", "weights", "label", "guidance", "out", "allow"),
    *("sampler", "metrics", "logger"),
)


def task(cfg: DictConfig) -> float | None:
    """Compare once; returns the figure that a sweeper should minimise."""
    return run_job(_work, cfg, KEYS)


def _work(cfg: dict[str, Any]) -> float | None:
    from scoresde.cli.contest import compare  # torch comes with it, and only now

    return compare(cfg)
