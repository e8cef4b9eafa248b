"""The run folder of a stranger: reading or resuming it writes nowhere else, calls nobody, and builds no odd object."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from scoresde import InputError, runs
from scoresde.build import build
from scoresde.cli.main import main
from scoresde.data.dataset import DataSource
from scoresde.loggers import MetricsFile, WandbLogger
from scoresde.results import Metric
from scoresde.workflows.job import check_types

TINY = ["train", "debug=tiny", "experiment=moons", "data.n=60", "model.net.width=8", "model.net.blocks=1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("made") / "run"
    assert main([*TINY, "logger=none", "n=6", f"run={run}"]) == 0
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(made, tmp_path / "run"))


def change(run: Path, **parts: Any) -> dict[str, Any]:
    file = run / runs.CONFIG
    cfg = yaml.safe_load(file.read_text()) | parts
    file.write_text(yaml.safe_dump(cfg))
    return cfg


# ---- each slot builds only classes of its own kind ----

STRANGE = {"_target_": "scoresde.loggers.MetricsFile", "path": "elsewhere"}
SLOTS = ["sde", "data", "model", "model.net", "loss", "optimizer", "trainer", "metrics.own", "samplers.own", "logger"]
SLOTS += ["samplers.own.solver", "samplers.own.grid", "samplers.own.corrector", "trainer.ema", "sde.beta_max", "data.n"]


@pytest.mark.parametrize("slot", SLOTS)
def test_a_slot_builds_only_classes_of_its_own_kind(run, slot):
    cfg = runs.read_config(run)
    cfg["samplers"] = {"own": {**next(iter(cfg["samplers"].values()))}}
    *parents, last = slot.split(".")
    place = cfg
    for key in parents:
        place = place[key]
    place[last] = {"_target_": "scoresde.sampling.Karras"} if slot == "logger" else STRANGE
    with pytest.raises(InputError, match=rf"^{slot}\S*: .*(is no |has no method load)"):
        check_types(cfg, ())


@pytest.mark.parametrize(
    ("cfg", "says"),
    [
        ({"_target_": "scoresde.data.memory.Array", "values": STRANGE}, "values._target_: .* is no plain value"),
        ({"_target_": "scoresde.data.memory.Array", "values": [[STRANGE]]}, "values.0.0._target_: "),
        ({"_target_": "torch.nn.Softmax", "dim": STRANGE}, "dim._target_: scoresde.loggers.MetricsFile is no "),
        ({"_target_": "scoresde.sampling.Sampler", "solver": {"x": STRANGE}}, "solver: .* is not a Solver"),
        ({"_target_": "scoresde.data.ImageFolder", "size": [STRANGE]}, "size.0._target_: .* is no int"),
        ({"_target_": "scoresde.data.ImageFolder", "mode": STRANGE}, "mode._target_: .* is no str"),
    ],
)
def test_no_object_hides_where_a_value_or_nothing_is_asked_for(cfg, says):
    with pytest.raises(InputError, match=f"^{says}"):
        build(cfg)


def test_kinds_take_what_the_user_writes():
    class Own:
        def load(self): ...

        def __call__(self, samples, dataset): ...

    assert issubclass(Own, DataSource)
    assert issubclass(Own, Metric)
    assert not issubclass(WandbLogger, DataSource | Metric)
    function = len
    assert build({"own": function}, expect=dict[str, Metric]) == {"own": function}


# ---- settings that write or call ----


def test_the_logger_of_a_folder_is_not_taken(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    target = tmp_path / "profile"
    target.write_text("mine\n")
    change(run, logger={**STRANGE, "path": str(target)})
    begun = []
    monkeypatch.setattr(MetricsFile, "__init__", lambda self, path: begun.append(path) or setattr(self, "path", path))
    monkeypatch.setattr(WandbLogger, "_begin", lambda self, mode, **_: begun.append(mode))
    assert main(["train", "run=run", "trainer.steps=22"]) == 0
    assert begun == [Path("run/metrics.jsonl"), "disabled"]
    assert target.read_text() == "mine\n"
    assert f"logger: logger._target_=scoresde.loggers.MetricsFile logger.path={target} of the folder is not used" in (
        capsys.readouterr().err
    )
    assert runs.read_config(run)["logger"]["_target_"] == "scoresde.loggers.WandbLogger"


def test_a_stored_online_logger_calls_nobody(run, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    change(run, logger={"_target_": "scoresde.loggers.WandbLogger", "mode": "online", "project": "theirs"})
    begun = []
    monkeypatch.setattr(WandbLogger, "_begin", lambda self, mode, **_: begun.append((mode, self.project)))
    assert main(["train", "run=run", "trainer.steps=22"]) == 0
    assert [(mode, project != "theirs") for mode, project in begun] == [("offline", True)]
    assert main(["train", "run=run", "trainer.steps=24", "logger.mode=online"]) == 0
    assert begun[1][0] == "online"
    assert begun[1][1] != "theirs"


def test_a_finished_run_with_another_logger_is_complete(run, capsys):
    change(run, logger={"_target_": "scoresde.loggers.WandbLogger", "mode": "online"})
    assert main(["train", "run=run"]) == 0
    assert "run is complete" in capsys.readouterr().out


def test_caches_of_a_folder_are_not_taken(run, tmp_path):
    images = {"_target_": "scoresde.data.ImageFolder", "path": "photos", "cache": str(tmp_path / "theirs")}
    deep = {"a": {"_target_": "scoresde.metrics.FrechetDistance", "features": {"cache": "/theirs", "seed": 0}}}
    change(run, data=images, metrics=deep)
    cfg = runs.read_config(run)
    assert cfg["data"] == {**images, "cache": None}
    assert cfg["metrics"]["a"]["features"] == {"cache": None, "seed": 0}


def test_data_of_a_folder_are_fetched_only_if_allowed(run, monkeypatch, capsys):
    from scoresde.data import HuggingFace

    fetched = []
    monkeypatch.setattr(HuggingFace, "load", lambda self: fetched.append(self.path) or pytest.fail("fetched"))
    change(run, data={"_target_": "scoresde.data.HuggingFace", "path": "they/set"})
    line = "data.path: they/set is not on this machine.*allow=\\[datasets\\]"
    with pytest.raises(InputError, match=line):
        runs.load(run).dataset()
    for command in (["train", "trainer.steps=29"], ["doctor"], ["compare", "n=20", "seeds=2"]):
        assert main([*command, "run=run"]) == 2
        assert "error: data.path: they/set is not on this machine" in capsys.readouterr().err
    assert fetched == []
    assert runs.stored_data(runs.read_config(run), run, ["datasets"]).path == "they/set"
    Path("they/set").mkdir(parents=True)
    assert runs.stored_data(runs.read_config(run), run).path == "they/set"


# ---- links ----


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("config.yaml", ["doctor"]),
        ("samples", ["sample", "n=2"]),
        *((name, ["train", "trainer.steps=29"]) for name in ("checkpoints", "metrics.jsonl", "summary.json", "wandb")),
    ],
)
def test_links_out_of_a_folder_are_not_followed(run, tmp_path, name, command, capsys):
    there = tmp_path / "theirs"
    shutil.move(run / name, there) if (run / name).exists() else there.mkdir()
    (run / name).symlink_to(there)
    before = sorted(map(str, there.rglob("*"))), there.stat().st_mtime_ns
    assert main([*command, "run=run"]) == 2
    assert f"{name} is a link to {there}; links out of a run folder" in capsys.readouterr().err
    assert (sorted(map(str, there.rglob("*"))), there.stat().st_mtime_ns) == before


def test_a_deep_link_and_a_pipe_are_refused_and_a_link_within_is_not(run, tmp_path):
    (run / "wandb").mkdir()
    (run / "wandb" / "latest").symlink_to("../samples")
    (run / "wandb" / "offline-run" / "logs").mkdir(parents=True)
    (run / "wandb" / "offline-run" / "logs" / "debug-core.log").symlink_to(tmp_path / "where the run was")
    (tmp_path / "name").symlink_to(run)
    runs.read_config(tmp_path / "name")
    checkpoint = max((run / "checkpoints").glob("step-*/ema.safetensors"))
    checkpoint.rename(tmp_path / "ema")
    checkpoint.symlink_to(tmp_path / "ema")
    with pytest.raises(InputError, match=r"ema\.safetensors is a link"):
        runs.load(run)
    checkpoint.unlink()
    os.mkfifo(checkpoint)
    with pytest.raises(InputError, match=r"ema\.safetensors is neither a file nor a folder"):
        runs.load(run)
