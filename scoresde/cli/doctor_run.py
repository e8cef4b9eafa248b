"""Checks of an SDE and data from a configuration or a run: a table in the terminal, and optionally a file."""

import dataclasses
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from scoresde import progress, runs
from scoresde.build import TARGET, build, resolve
from scoresde.cli.jobs import typed_keys
from scoresde.cli.settings import DoctorSettings
from scoresde.cli.stops import JobFailed
from scoresde.cli.sweep_job import sweeping
from scoresde.data import Dataset
from scoresde.data.dataset import DataSource
from scoresde.doctor import Finding, examine
from scoresde.errors import InputError, refuse
from scoresde.sde import SDE
from scoresde.workflows.job import check_types

_NARROWEST = 60  # columns of text


def doctor(settings: DoctorSettings, cfg: dict[str, Any]) -> None:
    """Examine the SDE against the data and print a line for each finding.

    Raises:
        InputError: something in the configuration is not possible; no file is written then.
        SystemExit: something is wrong with the SDE; in a sweep JobFailed.
    """
    out = None if settings.out is None else _free(Path(settings.out))
    if settings.run is not None:
        cfg = _of_run(Path(settings.run), settings.packages)
    dataset, sde = _objects(cfg, settings)
    findings = examine(sde, dataset)
    counts = Counter(ok=0, warning=0, wrong=0)
    counts.update(finding.verdict for finding in findings)
    print(f"sde    {sde}\ndata   {len(dataset.items):,} items of shape {dataset.event_shape}, in model units\n")
    print(f"{table(findings)}\n\n{_summary(counts)}" + ("\n" if sweeping() else ""), flush=True)
    if out is not None:
        what = {"sde": cfg["sde"], "data": cfg["data"], **counts}
        rows = [dataclasses.asdict(finding) for finding in findings]
        runs.write_json(out, {**what, "findings": rows, "versions": runs.versions()})
    if counts["wrong"] and sweeping():
        raise JobFailed(f"{counts['wrong']} wrong, see the table")
    if counts["wrong"]:
        raise SystemExit(1)


def _free(out: Path) -> Path:
    """The output file; in a sweep one for each job."""
    if sweeping():
        out = out.with_stem(f"{out.stem}-{HydraConfig.get().job.num}")
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"out: {out} cannot be written; give the name of a file in a folder that is there")
    return out


def _of_run(run: Path, allow: Sequence[str]) -> dict[str, Any]:
    """The SDE and data of a run, which its configuration fixes; raises InputError if it is no Gaussian path."""
    for key in typed_keys():
        refuse(key.split(".")[0] in ("sde", "data"), f"{key}: the run has its own; leave it out, or leave out run=")
    stored = runs.read_config(run)
    model = resolve(stored["model"][TARGET], "model", allow) if TARGET in (stored.get("model") or ()) else None
    gaussian = getattr(model, "states", "gaussian") == "gaussian"
    refuse(not gaussian, f"run: doctor examines Gaussian paths, and the model of {run} is none; give another run")
    return {key: runs.section(stored, key, run) for key in ("sde", "data")}


def _objects(cfg: dict[str, Any], settings: DoctorSettings) -> tuple[Dataset, SDE]:
    """The data and the SDE, part of which may be measured on the data; `cfg` then has the numbers."""
    allow, run = settings.packages, None if settings.run is None else Path(settings.run)
    check_types({"sde": cfg["sde"], "data": cfg["data"]}, allow)
    source = build(cfg["data"], "data", allow, DataSource) if run is None else runs.stored_data(cfg, run, allow)
    dataset: Dataset = source.load()
    cfg["sde"] = runs.measured(cfg["sde"], dataset)
    sde: SDE = build(cfg["sde"], "sde", allow, SDE)
    return dataset, sde


def table(findings: Sequence[Finding]) -> str:
    """A line for each finding: verdict, check, words; and the remedy below those that need one."""
    width = max(len(finding.check) for finding in findings)
    margin = " " * (width + 11)
    columns = progress.columns(_NARROWEST + len(margin))
    lines = []
    for finding in findings:
        line = f"{finding.verdict:<7}  {finding.check:<{width}}  {finding.message}"
        lines.append(textwrap.fill(line, columns, subsequent_indent=margin))
        if finding.remedy:
            remedy = f"{margin}-> {finding.remedy}"
            lines.append(textwrap.fill(remedy, columns, subsequent_indent=margin))
    return "\n".join(lines)


def _summary(counts: dict[str, int]) -> str:
    warnings = "1 warning" if counts["warning"] == 1 else f"{counts['warning']} warnings"
    if counts["ok"] == sum(counts.values()):
        return f"all {counts['ok']} checks are ok"
    return f"{counts['wrong']} wrong, {warnings}, {counts['ok']} ok; see above"
