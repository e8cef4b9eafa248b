"""The self-test of metrics on the command line: on which data, with a progress bar, and what is printed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoresde import progress, runs
from scoresde.build import build
from scoresde.cli.jobs import chosen, out_folder, typed_keys, usual_place
from scoresde.cli.settings import SelfTestSettings
from scoresde.data.dataset import DataSource
from scoresde.errors import refuse
from scoresde.results import Metric
from scoresde.runs.report import EVALUATIONS
from scoresde.workflows.selftest import SelfTest, write


def selftest(settings: SelfTestSettings, cfg: dict[str, Any]) -> None:
    """Measure the matrix as configured, print it, and write it.

    Raises:
        InputError: something in the configuration is not possible; nothing is written then.
    """
    allow, run = settings.packages, None if settings.run is None else Path(settings.run)
    device = runs.pick_device(settings.device)
    metrics = build(cfg["metrics"], "metrics", allow, Mapping[str, Metric] | None) or {}
    if run is None:
        source, title = build(cfg["data"], "data", allow, DataSource), chosen("data", cfg["data"])
        parent, name = usual_place(f"selftest-{title}")
    else:
        for key in typed_keys():
            refuse(key.split(".")[0] == "data", f"{key}: the run has its own data; leave it out, or leave out run=")
        stored = runs.read_config(run)
        cfg["data"] = runs.section(stored, "data", run)
        source, title = runs.stored_data(stored, run, allow), str(run)
        parent, name = run / EVALUATIONS, "selftest"
    test = SelfTest(metrics, source.load(), settings.n, settings.repeats, settings.resamplings, settings.seed, device)
    with progress.bar(test.work, "self-test", unit="set") as bar:
        matrix = test(bar.update)
    folder = out_folder(settings.out, parent, name)
    paths = write(folder, matrix, title, runs.without_secrets(cfg))
    print("\n".join([f"{title}, n = {matrix.n:,}", "", matrix.text(), "", *matrix.said()]))
    print("\n".join(["What each metric misses", *(f"  {name}: {said}" for name, said in matrix.missed().items()), ""]))
    print(f"report   {paths[0]}\ntables   {paths[2]}, {paths[1]}", flush=True)
