"""`scoresde ema`: the average of a run's weights over another length, made after the training."""

from typing import Any

from omegaconf import DictConfig

from scoresde.cli.jobs import run_job
from scoresde.cli.settings import EmaSettings

_FAR = 0.05  # distance of profiles from which on it is worth saying what would help
KEYS = ("run", "length", "checkpoint", "allow")


def task(cfg: DictConfig) -> None:
    """Make one average."""
    run_job(_work, cfg, KEYS)


def _work(cfg: dict[str, Any]) -> None:
    from scoresde import runs  # torch comes with what follows, and only now
    from scoresde.training import snapshots

    settings: EmaSettings = EmaSettings.of(cfg)
    run = runs.load(settings.run, settings.checkpoint, "cpu", allow=settings.packages)
    with runs.locked(run.path):
        made = snapshots.reconstruct(run.path, run.model, settings.length, str(settings.checkpoint))
    hint = "; a smaller trainer.snapshot_every would come nearer" if made.error > _FAR else ""
    print(
        f"length {settings.length:g} of {made.step:,} steps, made of {made.averages} averages; "
        f"the profile of its weights is off by {made.error:.1%}{hint}\n"
        f"kept in  {made.path}\n"
        f"next     scoresde sample {runs.setting(run.path)} checkpoint={made.path.name}",
        flush=True,
    )
