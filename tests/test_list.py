"""`scoresde list`: what a folder holds, in words; no folder can make it fail, run code or write."""

import csv
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from scoresde import InputError, runs
from scoresde.cli.main import main
from scoresde.files import held
from scoresde.runs.folder import in_use
from scoresde.runs.listing import entries
from scoresde.training import checkpoint as checkpoints

OLD = Path(__file__).parent / "fixtures" / "d14582e"
TRAIN = ["train", "debug=tiny", "model=mlp", "model.net.width=8", "data=array", "data.path=t.npy", "logger=none", "n=6"]
TRAIN += ["trainer.steps=4", "trainer.checkpoint_every=2", "~samplers.predictor_corrector", "~samplers.dopri5"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder, before = tmp_path_factory.mktemp("made"), Path.cwd()
    os.chdir(folder)
    try:
        np.save("t.npy", np.random.default_rng(0).normal(size=(60, 2)))
        assert main([*TRAIN, "run=run"]) == 0
    finally:
        os.chdir(before)
    return folder / "run"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def test_a_start_removes_the_temporary_folders_of_killed_programs_and_nothing_else(here, monkeypatch):
    temporary = here.parent / "tmp"
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    kept = [f"scoresde-lives.{os.getppid()}", "scoresde-locked.4194399", "scoresde-other", "other.4194399"]
    for name in (*kept, "scoresde-dead.4194399", f"scoresde-again.{os.getpid()}", "torchinductor_me"):
        (temporary / name / "sweep").mkdir(parents=True)
    (temporary / "scoresde-link.4194399").symlink_to(here)
    with held(temporary / "scoresde-locked.4194399"):
        assert main(["list"]) == 0
    assert {path.name for path in temporary.iterdir()} == {*kept, "scoresde-link.4194399", "torchinductor_me"}
    assert here.is_dir()


def states(folder: Path) -> dict[str, tuple[str, int | None, int | None]]:
    return {entry.path.name: (entry.state, entry.done, entry.steps) for entry in entries(folder) if entry.kind == "run"}


def printed(capsys, *arguments: str) -> str:
    assert main(["list", *arguments]) == 0
    return capsys.readouterr().out


def test_a_run_is_finished_stopped_running_converted_or_empty(made, here):
    for name in ("finished", "stopped", "begun", "running", "converted"):
        shutil.copytree(made, here / name)
        if name != "finished":
            (here / name / "summary.json").unlink()
    shutil.rmtree(checkpoints.at_step(here / "stopped", 4))
    shutil.rmtree(here / "begun" / "checkpoints")
    (here / "running" / "metrics.jsonl").write_text('{"step": 3}\n{"step": 17, "loss": 1.0}\n{"step": 1')
    config = yaml.safe_load((here / "converted" / "config.yaml").read_text())
    (here / "converted" / "config.yaml").write_text(yaml.safe_dump({"sde": config["sde"], "model": config["model"]}))
    (here / "converted" / "convert.json").write_text("{}")
    (here / "empty").mkdir()
    (here / "foreign").mkdir()
    (here / "foreign" / "notes.txt").write_text("no result")
    with runs.locked(here / "running"):
        found = states(here)
    assert found == {
        "finished": ("finished", 4, 4),
        "stopped": ("stopped", 2, 4),
        "begun": ("stopped", 0, 4),
        "running": ("running", 17, 4),
        "converted": ("converted", 4, None),
        "empty": ("empty", None, None),
    }
    assert states(here)["running"] == ("stopped", 4, 4)


def test_a_training_may_start_at_the_instant_in_which_a_list_looks_at_its_lock(here, monkeypatch):
    (here / ".lock").touch()
    look = (here / ".lock").open("rb")
    fcntl.flock(look, fcntl.LOCK_SH)
    with pytest.raises(InputError, match="in use by another program"), runs.locked(here):
        pass
    monkeypatch.setattr("time.sleep", lambda seconds: look.close())
    with runs.locked(here):
        assert in_use(here)
        with pytest.raises(InputError, match="in use by another program"), runs.locked(here):
            pass
    assert not in_use(here)


BROKEN = {
    "no config.yaml": lambda run: (run / "config.yaml").unlink(),
    "config.yaml: not readable as YAML": lambda run: halve(run / "config.yaml"),
    "config.yaml: trainer.steps: 'many' is not": lambda run: change(run, trainer={"steps": "many"}),
    "config.yaml: data is missing": lambda run: change(run, data=None),
    "summary.json cannot be read as JSON": lambda run: halve(run / "summary.json"),
    "summary.json: not results of scoresde": lambda run: (run / "summary.json").write_text('{"results": 3}'),
    "summary.json cannot be read as JSON (holds list": lambda run: (run / "summary.json").write_text("[]"),
    "summary.json cannot be read as JSON (has more than": lambda run: os.truncate(run / "summary.json", 70_000_000),
    "summary.json: floors: {": lambda run: odd_results(run),
    "model.safetensors has 10 bytes instead of": lambda run: os.truncate(
        checkpoints.at_step(run, 4) / "model.safetensors", 10
    ),
    "samples/x is a link to /etc": lambda run: (run / "samples" / "x").symlink_to("/etc"),
    "samples/p is neither a file nor a folder": lambda run: os.mkfifo(run / "samples" / "p"),
}


def halve(file: Path) -> None:
    os.truncate(file, 3 * file.stat().st_size // 5 if file.suffix == ".json" else 300)


def change(run: Path, **parts: object) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text()) | parts
    config = {key: value for key, value in config.items() if value is not None}
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def odd_results(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    summary["results"]["floors"] = {"sliced_wasserstein": ["x"]}
    (run / "summary.json").write_text(json.dumps(summary))


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_run_has_a_row_with_the_reason(made, here, capsys, reason):
    shutil.copytree(made, here / "run")
    BROKEN[reason](here / "run")
    (entry,) = entries(here)
    assert entry.state == "broken"
    assert reason in entry.about
    assert str(here) not in entry.about
    assert reason[:20] in " ".join(printed(capsys).split())


def test_the_metrics_are_those_of_the_best_sampler(made, here, capsys):
    shutil.copytree(made, here / "run")
    summary = json.loads((made / "summary.json").read_text())
    stored = summary["results"]
    stored["quantities"].append({"key": "hits", "direction": "higher", "ranks": True})
    stored["rows"][0]["values"]["hits"] = [0.25]
    second = {"name": "second", "values": {"sliced_wasserstein": [9.0], "hits": [0.75]}}
    third = {"name": "third", "values": {"sliced_wasserstein": [0.125], "hits": [0.5]}}
    stored["rows"] += [second, third]
    (here / "run" / "summary.json").write_text(json.dumps(summary))
    floor = float(np.mean(stored["floors"]["sliced_wasserstein"]))
    (record,) = json.loads(printed(capsys, "format=json"))["results"]
    assert record["sliced_wasserstein"] == 0.125
    assert record["sliced_wasserstein_floor"] == pytest.approx(floor, rel=1e-12)
    assert (record["hits"], record["hits_floor"]) == (0.75, None)
    names = ["runs/run", "run", "t.npy", "vp", "mlp"]
    assert [record[key] for key in ("path", "kind", "data", "sde", "model")] == names
    (row,) = csv.DictReader(io.StringIO(printed(capsys, "format=csv")))
    assert row == {key: "" if value is None else str(value) for key, value in record.items()}
    line = printed(capsys).splitlines()[2].split()
    assert line[:6] == ["run", "finished", "t.npy", "vp", "mlp", "4"]
    assert line[-3:] == ["0.125", f"{floor:.3g}", "0.75"]


def test_the_newest_come_first_and_a_sweep_stays_together(made, here, capsys):
    for age, name in enumerate(["b", "sweep/1-seed_1", "c", "sweep/0-seed_0", "a"]):
        shutil.copytree(made, here / name)
        for file in (here / name).iterdir():
            os.utime(file, (1e9 - age, 1e9 - age))
    (here / "latest").symlink_to("b")
    (here / "self").symlink_to(".")
    names = [line.split()[0] for line in printed(capsys).splitlines()[2:9]]
    assert names[:2] in (["b", "latest"], ["latest", "b"])
    assert names[2:] == ["sweep/", "1-seed_1", "0-seed_0", "c", "a"]
    listed = [entry["path"] for entry in json.loads(printed(capsys, "format=json"))["results"]]
    assert listed[2:] == ["runs/sweep/1-seed_1", "runs/c", "runs/sweep/0-seed_0", "runs/a"]


@pytest.mark.parametrize(("width", "headings"), [(80, "name state sde steps sliced W floor"), (140, None)])
def test_the_table_fits_the_terminal(made, here, capsys, monkeypatch, width, headings):
    monkeypatch.setenv("COLUMNS", str(width))
    shutil.copytree(made, here / "20261126-171659-fashion_mnist-f36ec4")
    shutil.copytree(OLD, here / "sweep" / ("x" * 60))
    lines = printed(capsys, "folder=runs/sweep").splitlines() + printed(capsys).splitlines()
    assert max(map(len, lines)) <= width
    (here / "sweep").rename(here.parent / "elsewhere")
    first = printed(capsys).splitlines()[0].split()
    assert " ".join(first) == (headings or "name state data sde model steps when sliced W floor")


def test_other_results_are_told_apart(here, capsys):
    shutil.copytree(OLD, here / "old")
    kinds = {(entry.kind, entry.path.relative_to(here / "old").as_posix()) for entry in entries(here)}
    drawn = {("samples", f"run/samples/{name}") for name in ("heun", "tuned", "unipc_2", "ancestral")}
    drawn |= {("samples", "classes/samples/labels"), ("grid", "run/tuned/steps-5.json"), ("comparison", "compare")}
    assert kinds == {("run", "run"), ("run", "classes"), *drawn}
    text = " ".join(printed(capsys).split())
    assert "samples runs/old/run/samples/heun 8 samples of heun, 9 evaluations each" in text
    assert "grid runs/old/run/tuned/steps-5.json mean endpoint error 0.0166, untuned 0.0373" in text
    halve(here / "old" / "compare" / "results.json")
    assert "results.json cannot be read as JSON" in printed(capsys)


def test_a_strangers_names_reach_the_terminal_as_plain_text(made, here, capsys):
    shutil.copytree(made, here / "a\x1b[31mb")
    change(here / "a\x1b[31mb", data={"_target_": "os.system.\x1b]0;title\x07"})
    assert "\x1b" not in printed(capsys) + printed(capsys, "format=csv") + printed(capsys, "format=json")


def test_a_folder_without_runs_is_one_line(here, capsys):
    assert printed(capsys) == "there are no runs in runs; scoresde train makes one\n"
    assert main(["list", "folder=nowhere"]) == 2
    assert capsys.readouterr().err.startswith("error: folder: there is no folder nowhere")


def test_nothing_heavy_is_imported_and_nothing_written(made, here):
    shutil.copytree(made, here / "run")
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    code = "import sys; from scoresde.cli.main import main; main(['list']); print({'torch', 'scipy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
