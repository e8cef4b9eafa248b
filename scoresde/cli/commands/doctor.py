"""Check whether an SDE is sound and fits the data, and say what to change.

usage: scoresde doctor [sde=OPTION] [data=OPTION] [key=value ...] [-m]

The exit code is 0 if nothing is wrong, else 1.

examples:
  scoresde doctor                                        VP on digits, the defaults of scoresde train
  scoresde doctor sde=ve sde.sigma_max=20 data=moons     is that enough noise for these data?
  scoresde doctor sde=rectified                          another SDE
  scoresde doctor sde=vp,subvp,ve,edm,cosine,rectified -m   all of them
  scoresde doctor sde=vp sde.beta_max=5                  a prior that does not fit
  scoresde doctor sde=drift 'sde.drift=-10*t' 'sde.diffusion=sqrt(20*t)'   your own drift and diffusion
  scoresde doctor sde=path 'sde.alpha_of_t=cos(pi*t/2)' 'sde.sigma_of_t=sin(pi*t/2)'
  scoresde doctor data=array data.path=table.csv         your own data
  scoresde doctor run=runs/RUN                           those of a run
  scoresde doctor sde=edm out=findings.json              for a program to read
"""

from typing import Any

from scoresde.cli.command import Command
from scoresde.cli.settings import DoctorSettings


def _work(settings: DoctorSettings, cfg: dict[str, Any]) -> None:
    from scoresde.cli.doctor_run import doctor  # imports torch

    doctor(settings, cfg)


COMMAND = Command(__name__, __doc__, DoctorSettings, ("sde", "data"), _work, rank=6)
