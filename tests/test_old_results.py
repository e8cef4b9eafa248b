"""Results of earlier versions still load, resume, go on, sample to the same numbers, and are collected.

tests/fixtures/README.md says what there is, and which version wrote it.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import SAMPLES
from safetensors.torch import load_file

from scoresde import load
from scoresde.cli import collect_run
from scoresde.cli.main import main

FIXTURES = Path(__file__).parent / "fixtures"
OLD, SWEPT = FIXTURES / "d14582e", FIXTURES / "b001d96"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy in the working directory."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


def samples(folder: Path) -> np.ndarray:
    with np.load(folder / "samples.npz", allow_pickle=False) as archive:
        return archive["samples"]


@pytest.mark.parametrize("name", ["run", "classes"])
@pytest.mark.parametrize(("weights", "file"), [("ema", "ema"), ("raw", "model")])
def test_a_run_loads_with_the_same_weights(name: str, weights: str, file: str) -> None:
    run = load(OLD / name, device="cpu", weights=weights)
    (stored,) = (OLD / name).glob(f"checkpoints/*/{file}.safetensors")
    expected = torch.cat([tensor.flatten() for tensor in load_file(stored).values()])
    found = torch.cat([tensor.flatten() for tensor in run.model.state_dict().values()])
    assert torch.equal(found.sort().values, expected.sort().values)  # whatever they are called today


@pytest.mark.parametrize("solver", ["heun", "ancestral", "unipc_2", "tuned"])
def test_a_run_gives_the_same_samples(solver: str, old: Path) -> None:
    grid = ["grid=lambda"] if solver == "ancestral" else []  # its default then
    typed = [*grid, "run=run", "n=8", "device=cpu", f"solver={solver}", "sampler.steps=5", "out=new"]
    assert main(["sample", *typed]) == 0
    np.testing.assert_allclose(samples(old / "new"), samples(OLD / "run" / "samples" / solver), rtol=0, atol=1e-6)


def test_a_run_with_classes_gives_the_same_samples(old: Path) -> None:
    typed = ["run=classes", "n=6", "device=cpu", "solver=dpmpp_2m", "sampler.steps=5", "label=[3,7]", "guidance=2"]
    assert main(["sample", *typed, "out=new"]) == 0
    assert np.array_equal(samples(old / "new"), samples(OLD / "classes" / "samples" / "labels"))


def test_a_run_resumes_to_the_same_weights(old: Path) -> None:
    assert main(["train", "run=run", "trainer.steps=90", "trainer.checkpoint_every=90"]) == 0
    expected = load_file(OLD / "resumed.safetensors")
    found = load_file(old / "run" / "checkpoints" / "step-00000090" / "ema.safetensors")
    for (_, mine), (_, theirs) in zip(sorted(found.items()), sorted(expected.items()), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


def test_a_run_with_classes_resumes(old: Path) -> None:
    assert main(["train", "run=classes", "trainer.steps=22"]) == 0
    assert load("classes", device="cpu").step == 22


@pytest.mark.parametrize(("folder", "rows"), [("compare", 6), ("run", 3), ("run/samples", 4)])
def test_results_are_collected(folder: str, rows: int, old: Path) -> None:
    assert main(["compare", f"folder={folder}", "logger=none", "out=new"]) == 0
    results = json.loads((old / "new" / "results.json").read_text())
    assert len(results["rows"]) == rows
    assert all(row["error"] is None for row in results["rows"])


def test_values_and_floors_are_collected_as_they_were_written(old: Path) -> None:
    written = json.loads((OLD / "run" / "summary.json").read_text())["samplers"]
    assert main(["compare", "folder=run", "logger=none", "out=new"]) == 0
    results = json.loads((old / "new" / "results.json").read_text())
    for row in results["rows"]:
        own = written[row["name"]]
        assert row["nfe"] == own["nfe"]
        assert all(values == [own[key]] for key, values in row["values"].items())
        assert {f"{key}_floor": floor for key, (floor,) in results["floors"].items()}.items() <= own.items()
        assert {"sliced_wasserstein", "nearest_train"} <= set(row["values"])
        assert not any(key.endswith(("_floor", "_ratio")) for key in row["values"])
    compared = json.loads((OLD / "compare" / "results.json").read_text())
    assert main(["compare", "folder=compare", "logger=none", "out=again"]) == 0
    results = json.loads((old / "again" / "results.json").read_text())
    assert [row["values"] for row in results["rows"]] == [row["figures"] for row in compared["rows"]]
    assert [row["setting"] for row in results["rows"]] == [row["sde"] for row in compared["rows"]]
    assert results["floors"] == compared["floors"]
    assert results["title"] == compared["problem"]


@pytest.fixture
def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy with a sweep, in the working directory; without pictures."""
    shutil.copytree(SWEPT, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    monkeypatch.setattr(collect_run, "_drawn", lambda *arguments: [])
    return tmp_path / "old"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_state_of_a_sweep_is_shown(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "sweep"]) == 0
    shown = capsys.readouterr().out
    jobs = [json.loads(file.read_text()) for file in (SWEPT / "sweep" / "jobs").iterdir()]
    assert "2 finished" in shown
    assert f"best {min(job['value'] for job in jobs):.4g}, job 1 (seed=0)" in shown
    for job in jobs:
        (row,) = [line.split() for line in shown.splitlines() if line.endswith(job["overrides"][0])]
        assert row[:4] == ["finished", str(job["job"]), "4", f"{job['value']:.4g}"]


def test_a_sweep_is_collected_into_the_same_table(swept: Path) -> None:
    assert main(["collect", "sweep", "logger=none", "out=again"]) == 0
    found, stored = (json.loads((swept / name / "table.json").read_text()) for name in ("again", "sweep"))
    assert {key: found[key] for key in ("metric", "settings", "jobs")}.items() <= stored.items()


def test_a_sweep_typed_again_trains_nothing(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, typed = files(swept / "sweep"), json.loads((SWEPT / "sweep" / "sweep.json").read_text())
    assert main(["train", "-m", "sweep=sweep", *typed["values"], *typed["fixed"]]) == 0
    said, after = capsys.readouterr().out, files(swept / "sweep")
    assert said.count("finished already, in") == 2
    runs = [name for name in before if "/" in name and not name.startswith("jobs/")]
    assert len(runs) > 16
    assert [name for name in runs if after[name] != before[name]] == []
    assert {name for name in after if name.endswith("config.yaml")} < before.keys()


@pytest.mark.parametrize("of", SAMPLES)
def test_a_tuned_grid_and_a_converted_run_give_the_same_samples(of: str, swept: Path) -> None:
    assert main(["sample", *SAMPLES[of], "out=new"]) == 0
    np.testing.assert_allclose(samples(swept / "new"), samples(SWEPT / of), rtol=0, atol=1e-6)
