"""`scoresde doctor`: the entry that Hydra calls; the work is in `scoresde.cli.visit`."""

from typing import Any

from omegaconf import DictConfig

from scoresde.cli.jobs import note_failure, run_job, sweeping

KEYS = ("run", "out", "allow", "sde", "data")


def task(cfg: DictConfig) -> None:
    """Examine once; ends with exit code 1 if something is wrong."""
    wrong = run_job(_work, cfg, KEYS)
    if wrong and sweeping():
        note_failure(f"{wrong:.0f} wrong, see the table", mendable=False)
    elif wrong:
        raise SystemExit(1)


def _work(cfg: dict[str, Any]) -> float:
    from scoresde.cli.visit import doctor  # torch comes with it, and only now

    return doctor(cfg)
