"""`scoresde convert`: the entry that Hydra calls; the work is in `scoresde.convert`."""

from typing import Any

from omegaconf import DictConfig

from scoresde.cli.jobs import overrides, run_job

KEYS = ("file", "config", "out", "weights", "size", "to", "run", "checkpoint", "sde", "model", "data", "allow")


def task(cfg: DictConfig) -> None:
    """Convert once."""
    run_job(_work, cfg, KEYS)


def _work(cfg: dict[str, Any]) -> None:
    from scoresde.cli.settings import ConvertSettings

    settings: ConvertSettings = ConvertSettings.of(cfg)
    if settings.to == "diffusers":
        from scoresde import runs
        from scoresde.convert import to_diffusers

        run = runs.load(str(settings.run), settings.checkpoint, "cpu", settings.weights, settings.packages)
        for line in to_diffusers(run.model, settings.out, run.event_shape):
            print(line)
        print(f"written to {settings.out}", flush=True)
        return
    from scoresde.convert import convert

    typed = [override.lstrip("+").split("=")[0] for override in overrides()]
    own = {key: cfg[key] for key in ("sde", "model", "data")}
    report = convert(
        str(settings.file),
        settings.out,
        settings.config,
        weights=settings.weights,
        size=settings.size,
        **own,
        typed=typed,
    )
    print(f"{report}\nwritten to {settings.out}; scoresde sample run={settings.out} draws from it", flush=True)
