"""Plant diseases in real items, and say which metric notices which at what dose.

usage: scoresde evaluate selftest run=FOLDER|data=OPTION [metrics=[NAME,...]] [key=value ...]

Real items play the samples: blurred, noisy, rounded, with copies of training items, without a class, and so on, at
three doses. A metric notices a dose if it raises an alarm in most repeats, where healthy items raise one in 5 %. The
result is a folder with report.html, selftest.json and selftest.csv.

examples, where RUN is a folder made by scoresde train:
  scoresde evaluate selftest run=runs/RUN                          the metrics of scoresde evaluate, on these data
  scoresde evaluate selftest data=digits                           other data
  scoresde evaluate selftest data=moons metrics=[distances,copies,profiles]
  scoresde evaluate selftest run=runs/RUN metrics=[classifier]     other metrics
  scoresde evaluate selftest data=digits n=200 resamplings=80      a quick look
  scoresde evaluate selftest data=digits repeats=20                finer shares of alarms
  scoresde evaluate selftest data=digits seed=1                    other divisions of the items
  scoresde evaluate selftest data=folder data.path=my_images       your own images
  scoresde evaluate selftest run=runs/RUN out=selftest             where the result goes
  scoresde evaluate selftest data=digits metrics=custom metrics.custom._target_=my.Metric allow=[my]
"""

from typing import Any

from scoresde.cli.command import Command
from scoresde.cli.settings import SelfTestSettings


def _work(settings: SelfTestSettings, cfg: dict[str, Any]) -> None:
    from scoresde.cli.selftest_run import selftest  # imports torch

    selftest(settings, cfg)


COMMAND = Command(__name__, __doc__, SelfTestSettings, ("data", "metrics"), _work, rank=4, keeps=True)
