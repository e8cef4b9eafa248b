"""A sweep goes on: finished jobs are skipped, stopped ones resume to the same bits, no job touches another's folder."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra.plugins.sweeper import Sweeper

from scoresde import InputError, figures
from scoresde.cli import collect_run, course, status_run, sweep, sweep_job, train_run
from scoresde.cli.main import main
from scoresde.cli.status_run import lines
from scoresde.loggers import NoLogger
from scoresde.sweeps import record
from scoresde.sweeps.status import JobStatus, Status
from scoresde.training import checkpoint

FAST = ["debug=tiny", "model=mlp", "model.net.width=4", "data=array", "data.path=t.npy", "logger=none", "n=6"]
FAST += ["trainer.steps=4", "trainer.checkpoint_every=2", "trainer.log_every=1"]
FAST += ["~samplers.predictor_corrector", "~samplers.dopri5", "samplers.dpmpp_2m.steps=2"]
SWEEP = ["train", "-m", "seed=0,1", *FAST]
VARYING = {"training_seconds", "seconds", "steps_per_second", "samples_per_second", "time", "title", "record"}


@pytest.fixture(scope="module", autouse=True)
def cheap():
    """Without matplotlib, the wait for the disk, and what composes each configuration once more."""

    def picture(x, transform, path, *more, **about):
        path.write_text("")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(figures, "picture", picture)
        patch.setattr(figures, "score_field", lambda levels, transform, path, *more: path.write_text(""))
        patch.setattr(collect_run, "_drawn", lambda *arguments: [])
        patch.setattr(collect_run, "logger_of_jobs", lambda *arguments: NoLogger())
        patch.setattr(Sweeper, "validate_batch_is_legal", lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep of two seeds; not to be changed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with contextlib.chdir(folder):
        np.save("t.npy", np.random.default_rng(0).normal(size=(60, 2)))
        assert main(SWEEP) == 0
    return next((folder / "runs").iterdir())


@pytest.fixture
def copied(undisturbed, here):
    shutil.copytree(undisturbed, here / "runs" / "sweep-a")
    return here / "runs" / "sweep-a"


def timeless(value):
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if key not in VARYING}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def content(sweep):
    """All files of each job by its settings, without what a clock has measured."""
    found = {}
    for job in record.jobs(sweep):
        own = found[tuple(job.overrides)] = {"state": job.state, "value": job.value}
        for file in (sweep / job.folder).rglob("*"):
            if file.is_file() and file.name not in (".lock", "manifest.json"):
                data = file.read_bytes()
                if file.suffix in (".json", ".jsonl"):
                    data = timeless([*map(json.loads, data.splitlines() if file.suffix == ".jsonl" else [data])])
                if file.suffix == ".yaml":
                    data = yaml.safe_load(data)
                own[str(file.relative_to(sweep / job.folder))] = data
    return found


def states(sweep):
    return {" ".join(job.overrides): (job.state, job.reason) for job in record.jobs(sweep)}


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}


def test_the_same_again_skips_what_is_finished_and_runs_new_values(copied, here, capsys):
    before = [stamps(copied / job.folder) for job in record.jobs(copied)]
    assert main([*SWEEP[:2], "seed=1,2,0", *FAST, "logger=none", "name=other"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^sweep  runs/sweep-a, gone on with: 2 finished; sweep=new begins another$", out, re.MULTILINE)
    assert len(re.findall(r"^job [13] of 3  seed=[01]: finished already, in \d-seed_[01]-\w+$", out, re.MULTILINE)) == 2
    assert re.search(r"^job 2 of 3  run    runs/sweep-a/2-other-seed_2-", out, re.MULTILINE)
    after = [stamps(copied / job.folder) for job in record.jobs(copied) if job.overrides != ["seed=2"]]
    assert sorted(map(sorted, before)) == sorted(map(sorted, after))
    assert [dict(sorted(one.items())) for one in after[::-1]] == [dict(sorted(one.items())) for one in before]
    assert set(states(copied)) == {"seed=0", "seed=1", "seed=2"}
    assert [p.name for p in (here / "runs").iterdir()] == ["sweep-a"]


@pytest.fixture
def half(copied):
    """The same sweep with the second job alone."""
    first, _ = record.jobs(copied)
    shutil.rmtree(copied / first.folder)
    (copied / "jobs" / f"{first.fingerprint}.json").unlink()
    return copied


def test_a_finished_job_returns_its_value_also_if_it_was_killed_before_that_was_recorded(copied, monkeypatch):
    returned = []
    run = sweep_job.run_in_sweep
    monkeypatch.setattr("scoresde.cli.jobs.run_in_sweep", lambda *a: returned.append(run(*a)) or returned[-1])
    first, last = record.jobs(copied)
    last.ending("finished", value=0.125).write(copied)
    record.JobRecord(first.fingerprint, first.overrides, 1, 2, folder=first.folder).write(copied)
    assert states(copied)["seed=0"] == ("stopped", record.KILLED)
    assert main(SWEEP) == 0
    assert returned == [first.value, 0.125]
    assert states(copied)["seed=0"] == ("finished", None)


def test_a_killed_sweep_ends_with_the_same_bits(undisturbed, half):
    """SIGKILL of the whole, in a process of its own, while the first checkpoint is written."""
    if (pid := os.fork()) == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            checkpoint.record_best = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
            main(SWEEP)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert states(half) == {"seed=0": ("stopped", record.KILLED), "seed=1": ("finished", None)}
    killed = record.jobs(half)[0]
    assert main(SWEEP) == 0
    assert record.jobs(half)[0].folder == killed.folder
    assert content(half) == content(undisturbed)
    assert {path.name for path in half.iterdir()} == {
        *(".lock", "jobs", "multirun.yaml", "sweep.json", "table.csv", "table.json"),
        *(job.folder for job in record.jobs(half)),
    }


def test_a_signal_stops_the_whole_and_says_how_to_go_on(undisturbed, half, capsys, monkeypatch):
    run = train_run.Job.run

    def interrupted(*arguments, **more):
        monkeypatch.setattr(train_run.Job, "run", run)
        return run(*arguments, callbacks=[(3, lambda progress: os.kill(os.getpid(), signal.SIGTERM))], **more)

    monkeypatch.setattr(train_run.Job, "run", interrupted)
    assert main(SWEEP) == 143
    *_, said, last = capsys.readouterr().err.splitlines()
    assert said.startswith("stopped by SIGTERM after step 3; saved ")
    begin, line = last.split(": ", 1)
    assert begin == "go on with the whole sweep"
    assert line.startswith("scoresde train -m ")
    assert line.endswith("seed=0,1 sweep=runs/sweep-a")
    assert states(half) == {"seed=0": ("stopped", "stopped by SIGTERM"), "seed=1": ("finished", None)}
    assert main(shlex.split(line)[1:]) == 0
    for job, own in content(undisturbed).items():
        ended = {name: own[name] for name in own if "checkpoints" not in name or "step-00000004" in name}
        assert ended == {name: content(half)[job][name] for name in ended}


def test_a_killed_worker_is_said_once_the_other_jobs_have_ended_with_how_to_go_on(half, capsys, monkeypatch):
    others = [["another job"], []]

    def launch(*arguments, **more):
        first = record.JobRecord("0" * 16, ["seed=0"], 1, 2, call=record.SweepRecord.read(half).call)
        first.write(half)
        raise RuntimeError("a worker process was killed")

    with monkeypatch.context() as patch:
        patch.setattr("scoresde.cli.main._called", launch)
        patch.setattr(sweep, "_elsewhere", lambda folder: others.pop(0))
        assert main(SWEEP) == 1
    assert others == []
    said, last = capsys.readouterr().err.splitlines()
    assert said == "error: job 1 of 2 (seed=0): killed"
    assert last.startswith("go on with the whole sweep: scoresde train -m ")


def test_a_signal_keeps_its_name_where_a_launcher_has_only_keyboard_interrupts(half, capsys, monkeypatch):
    def launch(*arguments, **more):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("scoresde.cli.main._called", launch)
    assert main(SWEEP) == 143
    assert capsys.readouterr().err == "error: stopped by SIGTERM\n"


def test_failed_jobs_are_tried_again(copied, capsys, monkeypatch):
    opening, sweep = course.Course._opening, ["train", "-m", "seed=2,1", *FAST]
    monkeypatch.setattr(course.Course, "_opening", lambda *more: 1 / 0)
    assert main(sweep) == 1
    reason = "ZeroDivisionError: division by zero"
    assert states(copied)["seed=2"] == ("failed", reason)
    assert capsys.readouterr().err.splitlines()[-1] == f"error: job 1 of 2 (seed=2): {reason}"
    monkeypatch.setattr(course.Course, "_opening", opening)
    assert main(sweep) == 0
    assert set(states(copied).values()) == {("finished", None)}
    assert len([*copied.glob("?-seed*")]) == 3


def test_jobs_of_which_the_data_have_changed_are_done_again_beside_their_folders(copied, capsys, monkeypatch):
    before = {job.folder: stamps(copied / job.folder) for job in record.jobs(copied)}
    values = np.load("t.npy")
    values[30, 1] += 1
    np.save("t.npy", values)
    monkeypatch.setattr(course.Course, "_opening", lambda *more: 1 / 0)
    assert main(SWEEP) == 1
    said = r"job [12] of 2  seed=[01]: its data have changed since then, so all of it is done again; \S+ stays as it is"
    assert len(re.findall(said, capsys.readouterr().out)) == 2
    assert not before.keys() & {job.folder for job in record.jobs(copied)}
    assert {folder: stamps(copied / folder) for folder in before} == before


def test_the_look_of_data_is_that_of_names_sizes_and_contents(here):
    folder = here / "data"
    (folder / "a").mkdir(parents=True)
    cfg, large = {"data": {"folder": "data"}, "seed": 0}, np.zeros(2**20, "u1")
    looks = [record.look({}), record.look(cfg)]
    assert looks == [None, None]
    for at in range(0, len(large), 150_000):
        large[at] += 1
        (folder / "a" / "x.bin").write_bytes(large.tobytes())
        looks.append(record.look(cfg))
    os.utime(folder / "a" / "x.bin", (1, 1))
    assert record.look({**cfg, "seed": 1}) == looks[-1]
    (folder / "a" / "x.bin").rename(folder / "a" / "y.bin")
    looks.append(record.look(cfg))
    (folder / "z.bin").touch()
    looks.append(record.look(cfg))
    assert len(set(looks)) == len(looks) - 1


def test_which_sweep_goes_on(copied, here, capsys, monkeypatch):
    work = []
    monkeypatch.setattr("scoresde.cli.jobs.run_in_sweep", lambda *arguments: work.append(arguments))
    with record.held_sweep(copied):
        assert main(SWEEP) == 2
    assert "sweep: runs/sweep-a is in use by another program" in capsys.readouterr().err
    other = [*SWEEP, "trainer.steps=5"]
    assert main([*other, "sweep=runs/sweep-a"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: sweep: runs/sweep-a is another sweep, without trainer.steps=5; its own is scoresde ")
    assert main(["train", "sweep=runs/sweep-a"]) == 2
    assert "with debug=tiny" in capsys.readouterr().err
    assert main(["sample", "sweep=runs/sweep-a", "run=x"]) == 2
    assert "sweep: runs/sweep-a is another sweep, of scoresde train" in capsys.readouterr().err
    assert main([*SWEEP, "sweep=t.npy"]) == 2
    assert main([*SWEEP, "sweep=."]) == 2
    assert "sweep: . is not the folder of a sweep" in capsys.readouterr().err
    assert not work
    assert main([*SWEEP, "hydra.sweep.dir=x"]) == 2
    assert "hydra.sweep.dir: write sweep=FOLDER" in capsys.readouterr().err
    for typed in (other, [*SWEEP, "sweep=new"], [*SWEEP, "sweep=mine"]):
        assert main(typed) == 0
    assert len(work) == 6
    assert [p.name for p in (here / "runs").iterdir()] == ["sweep-a"]  # which nothing was written to leaves nothing
    assert not Path("mine").exists()


def test_samples_of_a_run_are_not_drawn_twice_unless_it_was_trained_further(copied, here, capsys):
    first, _ = record.jobs(copied)
    run = f"runs/sweep-a/{first.folder}"
    sweep = ["sample", "-m", f"run={run}", "solver=ddim,heun", "sampler.steps=2", "n=4"]
    for _ in range(2):
        assert main(sweep) == 0
    assert capsys.readouterr().out.count("finished already") == 2
    assert len([*Path(run, "samples").glob("*-2-0-*")]) == 2
    assert main(["train", f"run={run}", "trainer.steps=5"]) == 0
    assert main(sweep) == 0
    assert "finished already" not in capsys.readouterr().out
    assert len([*Path(run, "samples").glob("*-2-0-*")]) == 4


def test_a_folder_of_a_stranger_leads_no_job_elsewhere(copied, here):
    first, _ = record.jobs(copied)
    shutil.move(copied / first.folder, here / "elsewhere")
    first.ending("stopped", folder="../../elsewhere").write(copied)
    before = stamps(here / "elsewhere")
    assert main(SWEEP) == 0
    assert stamps(here / "elsewhere") == before
    assert {job.state for job in record.jobs(copied)} == {"finished"}


def test_status_counts_the_jobs_and_the_time(copied, here, capsys):
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("sweep runs/sweep-a\n  2 finished\n")
    first, last = record.jobs(copied)
    last.ending("failed", "seed: no\x1b[31m", value=None).write(copied)
    with record.held_job(copied, first.fingerprint), train_run.runs.locked(copied / first.folder):
        record.JobRecord(first.fingerprint, first.overrides, 1, 5, folder=first.folder).write(copied)
        (copied / first.folder / "summary.json").unlink()
        rows = [{"step": 2, "steps_per_second": 4.0}]
        (copied / first.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        shutil.rmtree(copied / first.folder / "checkpoints")
        status = Status.of(copied)
        assert status.counts == {"running": 1, "failed": 1, "waiting": 3}
        assert (status.jobs[0].done, status.jobs[0].steps, status.jobs[0].left) == (2, 4, 0.5)
        assert status.left == 0.5 + 3 * 1.0
        assert main(["status", "runs/sweep-a"]) == 0
        assert "\x1b" not in capsys.readouterr().out
    assert main(["status", f"runs/sweep-a/{last.folder}"]) == 0
    assert capsys.readouterr().out.startswith(f"run runs/sweep-a/{last.folder}\n  1 finished\n")
    with pytest.raises(InputError, match="neither a sweep nor a run"):
        Status.of(here)


def test_a_low_terminal_shows_what_runs(monkeypatch):
    monkeypatch.setattr(status_run.sys.stdout, "isatty", lambda: True, raising=False)
    jobs = [JobStatus(k, f"seed={k} {'x' * 200}", "finished") for k in range(50)]
    status = Status("sweep s", [*jobs, JobStatus(50, "seed=50", "running", left=7500.0)], 4, True)
    shown = lines(status, 60, 12)
    assert len(shown) <= 12
    assert max(map(len, shown)) <= 60
    assert any(re.match(r"running +50 +2 h 5 min +seed=50$", line) for line in shown)
    assert shown[-1].startswith("and ")
