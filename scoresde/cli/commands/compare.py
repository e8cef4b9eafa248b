"""Compare samplers on a trained run or on an exact problem, from the same noise.

usage: scoresde compare run=FOLDER|problem=NAME|folder=FOLDER [key=value ...] [-m]

A sampler is SOLVER[+CORRECTOR][@GRID] with names of the groups below, such as reverse_diffusion+langevin@karras, or
peer:NAME of diffusers or azula (pip install "scoresde[peers]"): ddim, euler, dpmpp_2m, dpmpp_3m, dpmpp_2s, unipc,
unipc_3, deis, heun or lms, also with _karras or _exponential levels, and azula_RULE_ORDER_SCHEDULE, such as
azula_vab_4_vp.
A budget is network evaluations per sample. The result is a folder with report.html, results.csv and results.json.

examples, where RUN is a folder made by scoresde train:
  scoresde compare run=runs/RUN                                    which solver for how many evaluations
  scoresde compare problem=mixture_2d                              an exact score, nothing to train
  scoresde compare problem=digits budgets=[10,20] sde=edm          exact endpoints that are images
  scoresde compare problem=mixture_2d sdes=[vp,edm] solvers=[heun,dpmpp_2m]
  scoresde compare run=runs/RUN solvers=[heun,heun@karras,heun@time] budgets=[9,19,39]
  scoresde compare run=runs/RUN observation=inpaint observation.share=0.5 observation.held_out=0 posteriors=[dps,mmps]
  scoresde compare run=runs/RUN solvers=[torchdiffeq] tolerances=[1e-2,1e-3,1e-4]
  scoresde compare run=runs/RUN metrics=[distances,frechet] metrics.frechet.features._target_=my.Net allow=[my]
  scoresde compare run=runs/RUN label=3 guidance=[1,2,4] guidance_methods=[cfg,apg]   diversity beside fidelity
  scoresde compare folder=runs/SWEEP                               the results of a sweep in one table
"""

from typing import Any

from scoresde.cli.command import Command
from scoresde.cli.settings import CompareSettings


def _work(settings: CompareSettings, cfg: dict[str, Any]) -> float | None:
    from scoresde.cli.compare_run import compare  # imports torch

    return compare(settings, cfg)


GROUPS = (
    *(
        "problem",
        "observation",
        "solvers",
        "posteriors",
        "guidance_methods",
        "sde",
        "sdes",
        "reference",
        "sampler",
        "metrics",
    ),
    "logger",
)
COMMAND = Command(__name__, __doc__, CompareSettings, GROUPS, _work, rank=3, keeps=True)
