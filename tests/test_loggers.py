"""Loggers: what is logged can be read back, secrets cannot, and W&B never stops anything."""

import json
import math
import os
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from wandb_server import serving

from scoresde import InputError
from scoresde._secrets import without_secrets
from scoresde.loggers import METRICS, Logger, Loggers, MetricsFile, NoLogger, WandbLogger
from scoresde.loggers.wandb_files import keep, kept

# ---- metrics.jsonl ----


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_is_in_the_file_at_once(tmp_path: Path) -> None:
    logger = MetricsFile(tmp_path / "metrics.jsonl")
    before = time.time() - 1
    for step in range(3):
        logger.log({"loss": 0.1 * step, "odd/name": 1 / 3}, step)
        rows = lines(tmp_path / "metrics.jsonl")
        assert len(rows) == step + 1
        assert before < rows[-1].pop("time") < time.time() + 1
        assert rows[-1] == {"step": step, "loss": 0.1 * step, "odd/name": 1 / 3}  # floats to the bit


def test_numbers_that_json_lacks_are_kept_as_words(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "m").log({"a": math.nan, "b": math.inf, "c": -math.inf}, 1)
    (row,) = lines(tmp_path / "m")
    assert math.isnan(float(row["a"]))
    assert (float(row["b"]), float(row["c"])) == (math.inf, -math.inf)
    assert "NaN," not in (tmp_path / "m").read_text().replace('"NaN"', "")  # which is no JSON


def test_rewinding_leaves_what_came_before(tmp_path: Path) -> None:
    file = tmp_path / "m"
    logger = MetricsFile(file)
    logger.rewind(5)  # no file yet
    for step in (0, 5, 5, 6, 7):
        logger.log({"loss": step}, step)
    with file.open("a") as stream:
        stream.write('{"step": 7, "lo')  # cut by a kill
    logger.rewind(5)
    assert [row["step"] for row in lines(file)] == [0, 5, 5]
    logger.log({"loss": 1.0}, 6)
    assert [row["step"] for row in lines(file)] == [0, 5, 5, 6]
    assert list(tmp_path.iterdir()) == [file]


def test_lost_lines_are_said(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "m"
    logger = MetricsFile(file)
    logger.rewind(-1)
    assert capsys.readouterr().err == ""
    for step in (2, 4, 6):
        logger.log({"loss": step}, step)
    logger.rewind(6)
    assert capsys.readouterr().err == ""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    logger.rewind(6)
    assert f"{file} lacks the values of steps 3 to 6; it was changed or lost\n" in capsys.readouterr().err
    file.unlink()
    logger.rewind(6)
    assert "steps 1 to 6" in capsys.readouterr().err


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    logger = MetricsFile(tmp_path / "m")
    logger.log({"loss": 1.0}, 1)
    before = (tmp_path / "m").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
    try:
        with pytest.raises(InputError, match=r"^metrics: .*/m cannot be written \("):
            logger.log({"loss": 2.0}, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "m").read_bytes() == before


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics: .*nowhere/m cannot be written \(No such file"):
        MetricsFile(tmp_path / "nowhere" / "m").log({"loss": 1.0}, 1)


# ---- several, none, secrets ----


def test_all_loggers_hear_everything_in_order(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []

    class Records(NoLogger):
        def __init__(self, name: str, run_id: str | None) -> None:
            self.name, self._id = name, run_id

        @property
        def run_id(self) -> str | None:
            return self._id

        def __getattribute__(self, name: str) -> Any:
            if name in calls:
                return lambda *args: heard.append((object.__getattribute__(self, "name"), name))
            return object.__getattribute__(self, name)

    calls = ("start", "rewind", "declare", "log", "picture", "table", "checkpoint", "summary", "finish")
    both = Loggers([Records("a", None), Records("b", "xyz")])
    both.start(tmp_path, {}, "n")
    both.rewind(1)
    both.declare("loss", "lower")
    both.log({}, 1)
    both.picture("p", tmp_path, 1)
    both.table("t", [], [], 1)
    both.checkpoint(tmp_path, 1)
    both.summary({})
    both.finish()
    assert heard == [(name, call) for call in calls for name in "ab"]
    assert both.run_id == "xyz"
    assert Loggers([NoLogger()]).run_id is None


@pytest.mark.parametrize("logger", [NoLogger(), Loggers([]), WandbLogger()])
def test_a_logger_that_was_not_started_does_nothing(logger: Logger, tmp_path: Path, capfd: Any) -> None:
    logger.log({"a": 1.0}, 1)
    logger.picture("p", tmp_path / "none.png", 1)
    logger.table("t", ["a"], [[1]], 1)
    logger.finish(failed=True)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_secrets_are_removed_at_any_depth() -> None:
    config = {
        "hf_token": "s1",
        "seed": 3,
        "data": {"path": "/x", "client_secret": "s2", "list": [{"Password": "s3"}, 4, "text"], "none_token": None},
        "logger": {"api_key": {"nested": "s4"}, "apiKey": "s5", "project": "p"},
    }
    clean = without_secrets(config)
    assert not any(f"s{i}" in json.dumps(clean) for i in range(1, 6))
    assert clean["data"]["list"] == [{"Password": "(removed)"}, 4, "text"]
    assert (clean["seed"], clean["data"]["path"], clean["logger"]["project"]) == (3, "/x", "p")
    assert clean["data"]["none_token"] is None
    assert config["hf_token"] == "s1"


@pytest.mark.parametrize(("name", "value"), [("project", ""), ("mode", "on"), ("timeout", 0.0)])
def test_settings_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name}: {value!r}"):
        WandbLogger(**{name: value})


# ---- Weights & Biases ----


def finished(file: Path) -> list[Any]:
    """All records of a run that was finished; W&B writes the last of them some milliseconds after it says so."""
    for _ in range(1000):
        found = list(records(file))
        if any(kind(record) == "exit" for record in found):
            return found
        time.sleep(0.01)
    raise AssertionError(f"{file} has no end")


def kind(record: Any) -> str:
    return str(record.WhichOneof("record_type"))


def records(file: Path) -> Iterator[Any]:
    """The records of an offline run: a header of 7 bytes, then LevelDB log blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content = file.read_bytes()
    assert content[:6] == b":W&B" + struct.pack("<H", 0xBEE1)
    position, parts = 7, b""
    while position + 7 <= len(content):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        _, length, part = struct.unpack("<IHB", content[position : position + 7])
        if length == 0 and part == 0:
            return
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if part in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


def history(found: list[Any]) -> list[dict[str, Any]]:
    return [
        {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in r.history.item}
        for r in found
        if kind(r) == "history"
    ]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that must stay empty, and no settings of whoever runs the tests."""
    for variable in [v for v in os.environ if v.startswith("WANDB_") and v != "WANDB_SERVICE"]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_what_is_logged_offline_is_in_the_file(tmp_path: Path, home: Path, capfd: Any) -> None:
    run, picture = tmp_path / "run", tmp_path / "p.png"
    run.mkdir()
    Image.new("L", (5, 4), 77).save(picture)
    config = {"seed": 3, "model": {"net": {"width": 32}}, "hf_token": "very secret"}
    environment = dict(os.environ)

    logger = WandbLogger(project="somewhere")
    assert logger.run_id is None
    logger.start(run, config, "a name", group="a sweep")
    logger.log({"loss": 0.123456789, "loss_at/lam_-4.2": 2.0}, 50)
    logger.log({"loss": float("nan")}, 40)  # an earlier step, as after going on from a checkpoint
    logger.picture("samples", picture, 50)
    logger.table("final", ["solver", "nfe"], [["heun", 35], ["ddim", 10]], 50)
    logger.finish()
    logger.log({"loss": 9.0}, 60)  # after the end: nothing
    out, said = capfd.readouterr()
    assert out == ""
    assert said.endswith(f"wandb sync {run}/wandb/offline-run-*-{logger.run_id}\n")
    assert said.count("\n") == 1
    environment |= {k: v for k, v in os.environ.items() if k == "WANDB_SERVICE"}  # where W&B's own process listens
    assert dict(os.environ) == environment
    assert list(home.iterdir()) == []

    (file,) = run.glob(f"wandb/offline-run-*-{logger.run_id}/run-{logger.run_id}.wandb")
    found = finished(file)
    assert b"very secret" not in file.read_bytes()
    (begun,) = [r.run for r in found if kind(r) == "run"]
    assert (begun.run_id, begun.project, begun.run_group, begun.display_name) == (
        logger.run_id, "somewhere", "a sweep", "a name",
    )  # fmt: skip
    settings = {u.key: json.loads(u.value_json) for u in begun.config.update}
    assert (settings["seed"], settings["model"], settings["hf_token"]) == (3, {"net": {"width": 32}}, "(removed)")
    axes = [r.metric for r in found if kind(r) == "metric"]
    assert any(m.step_metric == "step" and "*" in (m.glob_name, m.name) for m in axes)

    rows = history(found)
    assert (rows[0]["step"], rows[0]["loss"], rows[0]["loss_at/lam_-4.2"]) == (50, 0.123456789, 2.0)
    assert rows[1]["step"] == 40
    assert math.isnan(float(rows[1]["loss"]))
    assert len(rows) == 4
    files = file.parent / "files"
    stored = Image.open(files / rows[2]["samples/path"])
    assert (stored.size, stored.getpixel((0, 0))) == ((5, 4), 77)
    table = json.loads((files / rows[3]["final/path"]).read_text())
    assert (table["columns"], table["data"]) == (["solver", "nfe"], [["heun", 35], ["ddim", 10]])


def test_a_resumed_run_keeps_its_id_and_runs_follow_each_other(tmp_path: Path, home: Path, capfd: Any) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, again, other = WandbLogger(), WandbLogger(), WandbLogger()
    first.start(tmp_path / "a", {}, "a")
    other.start(tmp_path / "b", {}, "b")  # while the first one goes on
    first.log({"x": 1.0}, 1)
    other.log({"x": 2.0}, 1)
    other.finish(failed=True)
    first.log({"x": 3.0}, 2)
    first.table("t", ["name", "w", "seconds"], [["heun", 0.1, 3.0], ["floor", None, None]], 2)
    first.finish()
    lost = {"step": 2, "name": "t", "columns": ["name"], "data": [["lost"]]}
    keep(tmp_path / "a", lost)  # a kill came before W&B had written it
    keep(tmp_path / "a", {**lost, "step": 3})
    again.start(tmp_path / "a", {}, "a")  # and no checkpoint has stored its id
    again.rewind(2)
    for rows in ([["heun", 0.1, 4.0], ["floor", None, None]], [["heun", 0.2, 4.0]]):  # measured again; another value
        again.table("t", ["name", "w", "seconds"], rows, 2)
    again.finish()
    files = (tmp_path / "a").glob("wandb/offline-run-*/files/media/table/*")
    tables = [json.loads(path.read_text())["data"] for path in files]
    expected = [[["heun", 0.1, 3.0], ["floor", None, None]], [["lost"]], [["heun", 0.2, 4.0]]]
    assert sorted(map(str, tables)) == sorted(map(str, expected))
    assert again.run_id == first.run_id != other.run_id
    (file,) = (tmp_path / "b").glob("wandb/offline-run-*/*.wandb")
    found = finished(file)
    assert [row["x"] for row in history(found)] == [2.0]
    assert [r.exit.exit_code for r in found if kind(r) == "exit"] == [1]
    begun = min((tmp_path / "a").glob("wandb/offline-run-*/*.wandb"))
    assert [row.get("x") for row in history(finished(begun))] == [1.0, 3.0, None]
    capfd.readouterr()


KILLED = """
import os, signal, sys, time
from pathlib import Path
from scoresde.loggers import METRICS, Loggers, MetricsFile, WandbLogger
run = Path(sys.argv[1])
logger = Loggers([MetricsFile(run / METRICS), WandbLogger()])
logger.start(run, {}, "n")
for step in range(1, 9):
    logger.log({"loss": 1 / step, "gradient": float("nan"), "steps_per_second": time.time()}, step)
    if step in (4, 7, 8):
        logger.picture("samples/training", run / f"{step}.png", step)
    if step == 5:
        time.sleep(0.5)
os.killpg(0, signal.SIGKILL)
"""


def test_a_killed_run_loses_nothing_before_the_last_flush_and_sends_the_rest_when_it_goes_on(
    tmp_path: Path, home: Path, capfd: Any
) -> None:
    run = tmp_path / "a run"
    run.mkdir()
    for step in (4, 7, 8):
        Image.new("L", (5, 4), step).save(run / f"{step}.png")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(run)], start_new_session=True, timeout=60)
    assert killed.returncode == -9
    (first,) = run.glob("wandb/offline-run-*/*.wandb")
    steps = [row["step"] for row in history(list(records(first)))]
    assert steps[:6] == [1, 2, 3, 4, 4, 5]  # a picture among them
    mine = WandbLogger()
    logger = Loggers([MetricsFile(run / METRICS), mine])
    logger.start(run, {}, "n")
    logger.rewind(7)  # the last checkpoint; step 8 is done again
    for step in (8, 9):
        logger.log({"loss": 1 / step, "gradient": math.nan, "steps_per_second": 3.0}, step)
    for step in (7, 8):  # the first one as final samples do that are drawn again at the step of the checkpoint
        logger.picture("samples/training", run / f"{step}.png", step)
    logger.finish()
    (second,) = set(run.glob("wandb/offline-run-*/*.wandb")) - {first}
    sent = history([*records(first), *finished(second)])
    losses = sorted((row["step"], row["loss"]) for row in sent if "loss" in row)
    assert losses == [(step, 1 / step) for step in range(1, 10)]
    shown = {row["step"]: find(run, row["samples/training/path"]) for row in sent if "samples/training/path" in row}
    assert {step: Image.open(path).getpixel((0, 0)) for step, path in shown.items()} == {4: 4, 7: 7, 8: 8}
    assert len(sent) == 9 + 3
    assert first.name == second.name == f"run-{mine.run_id}.wandb"
    command = capfd.readouterr().err.partition(" send it: ")[2]
    with serving() as server:
        url = f"http://127.0.0.1:{server.server_port}"
        environment = {**os.environ, "WANDB_MODE": "online", "WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40}
        typed = f"{Path(sys.executable).parent}/{command}"
        done = subprocess.run(typed, shell=True, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sorted((row["step"], row["loss"]) for row in server.rows if "loss" in row) == losses
    assert sorted(row["_step"] for row in server.rows) == list(range(len(sent)))  # none takes the place of another
    assert server.runs.keys() == {mine.run_id}


@pytest.mark.parametrize("broken", [b'{"step": 2, "na', b'{"step": 2}\n', b'{"step": 2, "name": "\xff', b"[2]\n"])
def test_a_broken_line_of_media_costs_no_other(broken: bytes, tmp_path: Path) -> None:
    file, media = tmp_path / "wandb/media.jsonl", [table(step) for step in (1, 2, 3)]
    file.parent.mkdir()
    keep(tmp_path, media[0])
    with file.open("ab") as stream:
        stream.write(broken)
    assert kept(tmp_path, 2) == media[:1]
    for medium in media[1:]:
        keep(tmp_path, medium)
    assert kept(tmp_path, 2) == media[:2]
    assert lines(file) == media[:2]


def table(step: int) -> dict[str, Any]:
    return {"step": step, "name": "a table", "columns": ["a"], "data": [[step]]}


def find(run: Path, path: str) -> Path:
    """A file that W&B keeps for one of the sessions of a run."""
    (found,) = run.glob(f"wandb/offline-run-*/files/{path}")
    return found


def test_settings_of_the_environment_and_what_a_run_is_found_by(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "a team")
    (tmp_path / "step-00000008").mkdir()
    (tmp_path / "step-00000008" / "state.json").write_text("{}")
    logger = WandbLogger(tags=("small", "vp"), job_type="train", artifact=True)
    logger.start(tmp_path, {}, "n")
    logger.declare("precision", "higher")
    logger.log({"precision": 0.5}, 4)
    logger.summary({"best_precision": 0.5, "best_step": 4})
    logger.checkpoint(tmp_path / "step-00000008", 8)
    logger.finish()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    found = finished(file)
    (begun,) = [r.run for r in found if kind(r) == "run"]
    assert (begun.project, begun.entity, begun.job_type) == ("theirs", "a team", "train")
    assert sorted(begun.tags) == ["small", "vp"]
    (metric,) = [r.metric for r in found if kind(r) == "metric" and r.metric.name == "precision"]
    assert metric.summary.max
    assert not metric.summary.min
    assert metric.step_metric == "step"
    summary = {u.key: json.loads(u.value_json) for r in found if kind(r) == "summary" for u in r.summary.update}
    assert (summary["best_precision"], summary["best_step"]) == (0.5, 4)
    (artifact,) = [a for r in found if (a := logged_artifact(r)) is not None]
    assert [entry.path for entry in artifact.manifest.contents] == ["state.json"]
    assert json.loads(artifact.metadata) == {"step": 8}


def logged_artifact(record: Any) -> Any:
    """The artifact of a record; None of another record."""
    if kind(record) == "request":
        return record.request.log_artifact.artifact if record.request.HasField("log_artifact") else None
    return record.artifact if kind(record) == "artifact" else None


def test_training_goes_on_when_it_does_not_start(
    tmp_path: Path, home: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    def broken(**settings: Any) -> None:
        assert (settings["id"], settings["resume"], settings["dir"]) == ("kept", "allow", str(tmp_path))
        raise RuntimeError(f"no luck\nin mode {settings['mode']}")

    monkeypatch.setattr(wandb, "init", broken)
    for mode, sentences in ((None, 1), ("online", 2)):
        logger = WandbLogger(mode=mode)  # type: ignore[arg-type]
        logger.start(tmp_path, {}, "n", run_id="kept")
        logger.log({"a": 1.0}, 1)
        logger.picture("p", tmp_path / "none.png", 1)
        logger.finish()
        out, said = capfd.readouterr()
        assert out == ""
        assert said.count("\n") == sentences
        assert said.count("RuntimeError: no luck in mode") == sentences
        assert said.endswith("every value is in metrics.jsonl\n")
        assert logger.run_id == "kept"


def test_training_goes_on_when_it_breaks_later(tmp_path: Path, home: Path, capfd: Any) -> None:
    logger = WandbLogger()
    logger.start(tmp_path, {}, "n")
    for _ in range(3):
        logger.picture("p", tmp_path / "there is no such.png", 1)
        logger.log({"a": 1.0}, 1)
    logger.finish()
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("W&B is not used from here on (FileNotFoundError: ")


def test_a_server_that_does_not_answer_costs_a_bounded_time(tmp_path: Path, home: Path) -> None:
    code = f"""
from pathlib import Path
from scoresde._secrets import without_secrets
from scoresde.loggers import WandbLogger
logger = WandbLogger(timeout=2.0)
logger.start(Path({str(tmp_path)!r}), {{}}, "n")
logger.log({{"loss": 2.5}}, 7)
logger.finish()
"""
    environment = {
        **os.environ, "WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40,
    }  # fmt: skip
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert time.perf_counter() - begin < 25
    assert done.returncode == 0
    assert done.stderr.count("W&B did not start in mode online (") == 1
    assert "it continues offline in " in done.stderr
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert [(row["step"], row["loss"]) for row in history(finished(file))] == [(7, 2.5)]
