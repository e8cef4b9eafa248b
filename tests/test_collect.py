"""`scoresde collect`: means over seeds, jobs without a result, older folders, plots, and one line for each mistake."""

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from scoresde.cli.collect_run import log, logger_of_jobs
from scoresde.cli.main import main
from scoresde.figures.sweep import sweep as drawn
from scoresde.loggers import NoLogger
from scoresde.results import Quantity, Results, Row
from scoresde.results.interval import Interval
from scoresde.sweeps.record import JobRecord, SweepRecord
from scoresde.sweeps.table import SweepTable

W = Quantity("w", "W", "a distance", direction="lower", floor="train")
COVERAGE = Quantity("coverage", direction="higher")
RATES, SEEDS = (1e-4, 1e-3, 1e-2), (0, 1, 2)


def value(rate: float, seed: int) -> float:
    return abs(np.log10(rate) + 3.1) + 0.1 * seed**2


def summary(folder: Path, rate: float, seed: int) -> None:
    """Of two samplers; the second one is better by the distance and worse by the coverage."""
    results = Results("data", 8, 1, quantities={q.key: q for q in (W, COVERAGE)}, floors={"w": [0.5]})
    for name, distance, share in (("ddim", 2 * value(rate, seed), 0.9), ("heun", value(rate, seed), 0.2)):
        results.rows.append(Row(name, nfe=5, seconds=[1.0], values={"w": [distance], "coverage": [share]}))
    content = {"step": 10, "loss": 2 * rate, "n": 8, "seed": seed, "best": 1.0, "results": results.content()}
    (folder / "summary.json").write_text(json.dumps(content))
    parts = {"data": {"_target_": "scoresde.data.Moons"}, "sde": {"_target_": "scoresde.VPSDE"}, "model": {}}
    cfg = {**parts, "trainer": {"steps": 10}, "optimizer": {"lr": rate}, "seed": seed, "run": None}
    (folder / "config.yaml").write_text(yaml.safe_dump(cfg))


def test_of_samples_the_results_are_metrics_and_what_was_asked_for_is_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    SweepRecord("sample", [], ["posterior"], ["posterior=dps,mmps"], "2026-01-01").write(tmp_path)
    for number, (name, psnr) in enumerate((("dps", 12.5), ("mmps", 15.0)), 1):
        asked = {"checkpoint_step": 9, "guide_checkpoint_step": 5, "guidance": 2.0, "held_out": 3, "n": 8, "seed": 0}
        asked |= {"observation": {"_target_": "scoresde.observation.Inpaint", "share": 0.5}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps({**asked, "nfe": 10.0, "psnr": psnr}))
        JobRecord(f"{number:016x}", [f"posterior={name}"], number, 2, folder=name).ending("finished").write(tmp_path)
    assert main(["collect", f"folder={tmp_path}", "metric=psnr"]) == 0
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said[:4] == [["posterior", "psnr", "nfe"], said[1], ["mmps", "15", "10"], ["dps", "12.5", "10"]]
    assert not any("table.csv" in line and "columns" in line for line in said)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Nine finished jobs, one that failed and one that was stopped."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / "runs" / "sweep"
    folder.mkdir(parents=True)
    SweepRecord("train", [], ["optimizer.lr", "seed"], ["optimizer.lr=...", "seed=..."], "2026-01-01").write(folder)
    for number, (rate, seed) in enumerate(((rate, seed) for rate in RATES for seed in SEEDS), 1):
        job = JobRecord(f"{number:016x}", [f"optimizer.lr={rate}", f"seed={seed}"], number, 11, folder=f"{number}-job")
        (folder / f"{number}-job").mkdir()
        summary(folder / f"{number}-job", rate, seed)
        job.ending("finished", value=value(rate, seed)).write(folder)
    failed = JobRecord("a" * 16, ["optimizer.lr=10", "seed=0"], 10, 11).ending("failed", "training diverged at step 3")
    failed.write(folder)
    JobRecord("b" * 16, ["optimizer.lr=0.1", "seed=2"], 11, 11).write(folder)  # no process holds its lock
    return folder


def test_the_mean_over_seeds_has_students_interval(sweep, capsys):
    assert main(["collect", str(sweep)]) == 0
    rows = list(csv.DictReader((sweep / "table.csv").read_text().splitlines()))
    assert [float(row["optimizer.lr"]) for row in rows[:3]] == [1e-3, 1e-4, 1e-2]  # the best first
    for row in rows[:3]:
        values = [value(float(row["optimizer.lr"]), seed) for seed in SEEDS]
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert row["seeds"] == "3"
        assert float(row["w"]) == pytest.approx((low + high) / 2)
        assert float(row["w_half"]) == pytest.approx((high - low) / 2)
        assert float(row["coverage"]) == pytest.approx(0.2)  # of the sampler with that distance
        assert float(row["loss"]) == 2 * float(row["optimizer.lr"])
    assert [(r["state"], r["reason"], r["seeds"]) for r in rows[3:]] == [
        ("failed", "training diverged at step 3", "seed=0"),
        ("stopped", "killed", "seed=2"),
    ]
    content = json.loads((sweep / "table.json").read_text())
    assert len(content["jobs"]) == 11
    assert content["settings"][0]["metrics"]["w"]["half"] == float(rows[0]["w_half"])
    text = capsys.readouterr().out
    assert "failed   optimizer.lr=10 seed=0: training diverged at step 3" in text
    assert max(map(len, text.partition("\ntable ")[0].splitlines())) <= 80


def test_a_folder_without_records_gives_the_same_table(sweep):
    with_records = SweepTable.of(sweep)
    for path in (*sweep.glob("jobs/*"), sweep / "sweep.json"):
        path.unlink()
    (sweep / "jobs").rmdir()
    without = SweepTable.of(sweep)
    assert without.settings == with_records.settings
    assert without.others == []


def test_a_damaged_summary_is_a_row_with_the_reason(sweep):
    (sweep / "1-job" / "summary.json").write_text("{")
    (broken,) = (job for job in SweepTable.of(sweep).others if job.state == "broken")
    assert "summary.json cannot be read" in broken.reason
    assert broken.settings == {"optimizer.lr": RATES[0], "seed": 0}


def test_a_metric_of_which_more_is_better_comes_first_with_more(sweep):
    rows = SweepTable.of(sweep, "coverage").settings
    assert [row.values["coverage"].mean for row in rows] == pytest.approx([0.2] * 3)
    results = Results("", 8, 1, quantities={"coverage": COVERAGE}, floors={"coverage": [1.0]})
    results.rows = [Row("a", values={"coverage": [0.2]}), Row("b", values={"coverage": [0.7]})]
    assert results.best() == 0.7
    assert results.objective() == -0.7
    (sweep / "1-job" / "summary.json").write_text(json.dumps({"results": results.content()}))
    assert SweepTable.of(sweep).jobs[0].values["coverage"] == 0.7


def test_the_best_of_other_keys_is_drawn_and_the_table_logged(sweep, monkeypatch):
    seen, logged = [], {}
    monkeypatch.setattr("scoresde.loggers.NoLogger.table", lambda _, name, head, rows, at: logged.update({name: rows}))
    monkeypatch.setattr("scoresde.figures.sweep.sweep", lambda points, keys, *_: seen.append((points, keys)))
    assert main(["collect", str(sweep), "keys=[lr]", "out=tables"]) == 0
    assert len(logged["sweep"]) == 5
    ((points, keys),) = seen
    assert keys == ["optimizer.lr"]
    assert sorted(settings["optimizer.lr"] for settings, _ in points) == sorted(RATES)
    assert sorted(p.name for p in Path("tables").iterdir()) == ["table.csv", "table.json"]
    assert not list(sweep.glob("table*"))


def test_the_table_of_a_sweep_is_one_run_of_its_group_with_the_logger_of_its_jobs(sweep, monkeypatch):
    import wandb

    begun, init = [], wandb.init
    monkeypatch.setattr(wandb, "init", lambda **about: begun.append(about) or init(**about))
    record = SweepRecord("train", ["sde=vp", "logger.project=p", "optimizer=adam"], [], [], "")
    for metric in ("w", "w", "coverage"):
        logger = logger_of_jobs(record, [])
        assert logger.project == "p"
        table = SweepTable.of(sweep, metric)
        log(logger, table, sweep, [], asdict(record))
    assert {(one["group"], one["job_type"], one["name"]) for one in begun} == {("sweep", "sweep", "table of sweep")}
    assert {one["id"] for one in begun[1:]} == {logger.run_id}
    tables = [json.loads(path.read_text()) for path in sweep.glob("wandb/offline-run-*/files/media/table/*.json")]
    assert [len(one["data"]) for one in tables] == [5, 5]  # the same one was not sent again
    for command, typed in (("train", "logger=none"), ("sample", "seed=1")):
        assert type(logger_of_jobs(SweepRecord(command, [typed], [], [], ""), [])) is NoLogger


GRID = [({"lr": rate, "sde": sde, "n": n}, Interval(rate + n, 0.1)) for rate in RATES for sde in "ba" for n in (1, 2)]


def test_one_key_is_a_line_with_a_logarithmic_axis_where_values_span_decades(tmp_path):
    points = [point for point in GRID if point[0]["sde"] == "a" and point[0]["n"] == 1]
    ax = drawn(points[::-1], ["lr"], W, tmp_path / "a.png", "title").axes[0]
    line = ax.containers[0].lines[0]
    assert line.get_xdata().tolist() == list(RATES)
    assert line.get_ydata().tolist() == [rate + 1 for rate in RATES]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    assert ax.get_xlabel() == "lr"


def test_two_keys_are_a_map_of_the_means_with_numbers_in_order(tmp_path):
    points = [point for point in GRID if point[0]["sde"] == "a"]
    ax = drawn(points[::-1], ["lr", "n"], W, tmp_path / "a.png", "title").axes[0]
    assert ax.images[0].get_array().tolist() == [[rate + n for rate in RATES] for n in (1, 2)]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.0001", "0.001", "0.01"]
    bold = [text.get_position() for text in ax.texts if text.get_weight() == "bold"]
    assert bold == [(0, 0)]
    scattered = [({"a": 10.0**k, "b": k}, Interval(float(k), 0.1)) for k in range(5)]
    sparse = drawn(scattered, ["a", "b"], W, tmp_path / "b.png", "title").axes[0]
    assert not sparse.images
    assert sparse.get_xscale() == "log"


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_more_keys_are_parallel_coordinates_with_the_best_on_top(tmp_path, better):
    quantity = Quantity("w", direction=better)
    ax = drawn(GRID, ["lr", "sde", "n"], quantity, tmp_path / "a.png", "title").axes[0]
    heights = np.stack([path.vertices[:, 1] for path in ax.collections[0].get_paths()])
    assert len(heights) == len(GRID)
    assert heights[-1, -1] == (0 if better == "lower" else 1)
    assert set(heights[:, 0].round(9)) == {0.0, 0.5, 1.0}  # powers of ten lie equally far apart
    assert [label.get_text() for label in ax.get_xticklabels()] == ["lr", "sde", "n", "w"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], r"folder: there is no folder nothing .*give"),
        (["."], r"folder: \. has no jobs of a sweep in it, and no runs; give"),
        ([], r"folder: not given; write folder="),
        (["runs/sweep", "runs"], r"runs: one folder is given already"),
        (["runs/sweep", "metric=los"], r"metric: no job has los; did you mean loss\? \(metrics: w, value, .*\)"),
        (["runs/sweep", "keys=[sde]"], r"keys: sde does not differ between jobs.*\(keys: optimizer\.lr\)"),
        (["runs/sweep", "out=runs/sweep/table.csv/x"], r".*table\.csv.*give another place"),
    ],
)
def test_a_mistake_is_one_line(sweep, capsys, words, said):
    (sweep / "table.csv").write_text("")
    here = {path for path in sweep.rglob("*") if path.suffix != ".csv"}
    if words == ["."]:
        for path in sweep.rglob("*"):
            path.unlink() if path.is_file() else None
    assert main(["collect", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"error: {said}", line)
    assert {path for path in sweep.rglob("*") if path.suffix != ".csv"} <= here


def test_numbers_without_a_direction_have_no_best(sweep):
    for file in sweep.glob("*-job/summary.json"):
        file.write_text(json.dumps({"nfe": 9}))
    for file in sweep.glob("jobs/*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"value": None}))
    table = SweepTable.of(sweep)
    assert table.metrics == ["nfe"]
    assert "best" not in table.text(80)
