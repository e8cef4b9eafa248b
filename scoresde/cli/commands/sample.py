"""Draw samples from a trained run.

usage: scoresde sample run=FOLDER [group=option ...] [key=value ...] [-m]

examples, where RUN is a folder made by scoresde train:
  scoresde sample run=runs/RUN                                        100 samples, 50 steps of solver=auto
  scoresde sample run=runs/RUN solver=heun,ddim sampler.steps=10,20 -m
  scoresde sample run=runs/RUN n=50000 batch_size=1000 format=png     any number, images as single files too
  scoresde sample run=runs/RUN solver=heun sampler.path=true          with a film of noise becoming data
  scoresde sample run=runs/RUN solver=reverse_diffusion corrector=langevin sampler.steps=200
  scoresde sample run=runs/RUN start=photo.png strength=0.6           redraw an image
  scoresde sample run=runs/RUN observation=inpaint observation.mask=hole.png observation.item=photo.png n=16
  scoresde sample run=runs/RUN label=[0,1] guidance=3 guidance_interval=[0.2,3]   of these classes
  scoresde sample run=runs/RUN guidance=2 guide=runs/RUN guide_checkpoint=2000   led away from its own past
  scoresde sample run=runs/RUN seed=1,2,3 -m                          other samples
"""

from collections.abc import Mapping
from typing import Any

from scoresde.cli.command import Command
from scoresde.cli.settings import SampleSettings
from scoresde.constraints import checked


def without_path(cfg: Any) -> tuple[Any, bool]:
    """The configuration `sampler` as its class takes it, and its key `path`, which belongs to the command.

    Raises:
        InputError: `sampler.path` is not true or false.
    """
    if not isinstance(cfg, Mapping):
        return cfg, False  # which `build` refuses
    rest = dict(cfg)
    path: bool = checked(rest.pop("path", False), "sampler.path", bool)
    return rest, path


def _work(settings: SampleSettings, cfg: dict[str, Any]) -> None:
    from scoresde.cli.sample_run import sample  # imports torch

    arguments, path = without_path(cfg["sampler"])
    sample(settings, arguments, path, cfg["guidance_method"], cfg["observation"], cfg["posterior"])


GROUPS = ("sampler", "guidance_method", "observation", "posterior")
COMMAND = Command(__name__, __doc__, SampleSettings, GROUPS, _work, rank=2, keeps=True)
