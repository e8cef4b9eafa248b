"""Make a run from the weights of other projects, or a diffusers folder from a run.

usage: scoresde convert file=FILE out=FOLDER [config=FILE] [sde=OPTION] [model=OPTION] [key=value ...]
       scoresde convert run=FOLDER to=diffusers out=FOLDER

FILE is a checkpoint of score_sde_pytorch or denoising-diffusion-pytorch, a state dict of EDM, EDM2, guided-diffusion or
DiT, or a folder of diffusers. What the weights determine is inferred; the rest comes from config=, the original's
configuration as JSON or YAML, or from sde= and model=. A report says which is which. Pickles of code are refused.

examples:
  scoresde convert file=checkpoint_24.pth config=ncsnpp.json out=runs/ncsnpp
  scoresde convert run=runs/ddpm to=diffusers out=exported
  scoresde convert file=checkpoint_24.pth config=ncsnpp.json out=runs/raw weights=raw
  scoresde convert file=checkpoint_26.pth sde=vp model=ddpmpp size=32 out=runs/ddpmpp
  scoresde convert file=checkpoint_24.pth sde=ve sde.sigma_max=50 model=ncsnpp size=32 out=runs/ncsnpp
  scoresde convert file=checkpoint.pth sde=ve model=ncsnpp model.net.fir=false size=64 out=runs/mine
  scoresde convert file=edm-cifar10.safetensors out=runs/edm
  scoresde convert file=64x64_diffusion.pt config=flags.yaml out=runs/adm
  scoresde convert file=ddpm-cifar10-32 out=runs/ddpm            a folder of diffusers
  scoresde convert file=ddpm-cifar10-32 data=folder data.path=images out=runs/ddpm   ready for scoresde compare

then:
  scoresde sample run=runs/ncsnpp solver=reverse_diffusion corrector=langevin sampler.steps=1000
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from scoresde.cli.command import Command
from scoresde.cli.settings import Settings
from scoresde.constraints import Count
from scoresde.errors import require


@dataclass(frozen=True)
class ConvertSettings(Settings):
    """What is converted into what, and what no file states."""

    out: str
    file: str | None
    config: str | None
    weights: Literal["ema", "raw"]
    size: Count | None
    to: Literal["run", "diffusers"]
    run: str | None
    checkpoint: str | int

    def __post_init__(self) -> None:
        source, other = ("file", "run") if self.to == "run" else ("run", "file")
        require(getattr(self, source) is not None, source, None, f"to={self.to} needs {source}=")
        require(getattr(self, other) is None, other, getattr(self, other), f"to={self.to} takes {source}= alone")


def _work(settings: ConvertSettings, cfg: dict[str, Any]) -> None:
    if settings.to == "diffusers":
        _export(settings)
        return
    from scoresde.cli.jobs import typed_keys
    from scoresde.convert import convert
    from scoresde.runs import setting

    own = {key: cfg[key] for key in ("sde", "model", "data")}
    files = (str(settings.file), settings.out, settings.config)
    report = convert(*files, weights=settings.weights, size=settings.size, **own, typed=typed_keys())
    draws = f"scoresde sample {setting(Path(settings.out))} draws from it"
    print(f"{report}\nwritten to {settings.out}; {draws}", flush=True)


def _export(settings: ConvertSettings) -> None:
    from scoresde import runs
    from scoresde.convert import to_diffusers
    from scoresde.model import ScoreModel

    run = runs.load(str(settings.run), settings.checkpoint, "cpu", settings.weights, settings.packages)
    run.model.needs_gaussian("convert")
    for line in to_diffusers(cast(ScoreModel, run.model), settings.out, run.event_shape):
        print(line)
    print(f"written to {settings.out}", flush=True)


COMMAND = Command(__name__, __doc__, ConvertSettings, ("sde", "model", "data"), _work, rank=7)
