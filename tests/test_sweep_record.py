"""What is known of a sweep and its jobs on disk: told by configuration, whole or not at all, and by whom it is held."""

import dataclasses
import json

import pytest

from scoresde import InputError
from scoresde.sweeps import record
from scoresde.sweeps.record import JobRecord, SweepRecord

CFG = {"sde": {"beta_min": 0.1, "_target_": "scoresde.VPSDE"}, "seed": 0, "name": None, "logger": {}, "out": None}


def test_a_fingerprint_is_of_what_decides_the_result():
    own = record.fingerprint("train", CFG)
    assert own == record.fingerprint("train", dict(reversed(CFG.items())))
    assert own == record.fingerprint("train", CFG | {"name": "mine", "logger": {"project": "x"}, "out": "there"})
    others = [CFG | {"seed": 1}, CFG | {"seed": "0"}, CFG | {"seed": 0.5}, CFG | {"run": "runs/a"}]
    others += [CFG | {"sde": CFG["sde"] | {"beta_min": 0.2}}]
    found = {own, record.fingerprint("sample", CFG), *(record.fingerprint("train", cfg) for cfg in others)}
    assert len(found) == 2 + len(others)
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in found)


def test_records_are_read_as_they_were_written(tmp_path):
    sweep = SweepRecord("train", ["n=6"], ["seed"], ["seed=0,1"], "2026-11-27T07:00:00")
    sweep.write(tmp_path)
    assert SweepRecord.read(tmp_path) == sweep
    (tmp_path / "jobs").mkdir()
    first = JobRecord("a" * 16, ["seed=0"], 1, 2).ending("finished", value=0.1 + 0.2, folder="0-seed_0")
    last = JobRecord("b" * 16, ["seed=1"], 2, None).ending("failed", "seed: no", fixable=False)
    for job in (last, first):
        job.write(tmp_path)
    assert record.jobs(tmp_path) == [first, last]
    assert [job.words for job in (first, last)] == ["job 1 of 2 (seed=0)", "job 2 (seed=1)"]


def test_a_job_that_says_running_with_a_free_lock_was_killed(tmp_path):
    job = JobRecord("a" * 16, ["seed=0"], 1, 2)
    with record.held_job(tmp_path, job.fingerprint):
        job.write(tmp_path)
        assert record.job_of(tmp_path, job.fingerprint) == job
        assert record.runs(tmp_path)
        with pytest.raises(InputError, match=r"in use"), record.held_job(tmp_path, job.fingerprint):
            pass
        with pytest.raises(InputError, match=r"job 1 of 2 \(seed=0\) of .* still runs"), record.held_sweep(tmp_path):
            pass
    assert record.job_of(tmp_path, job.fingerprint) == dataclasses.replace(job, state="stopped", reason="killed")
    assert not record.runs(tmp_path)


def test_a_sweep_is_held_once_and_begins_without_the_mark_of_a_stop(tmp_path):
    (tmp_path / record.STOP).touch()
    with record.held_sweep(tmp_path):
        assert record.runs(tmp_path)
        assert not (tmp_path / record.STOP).exists()
        with pytest.raises(InputError, match=r"sweep: .* is in use by another program"), record.held_sweep(tmp_path):
            pass
    with record.held_sweep(tmp_path):
        pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "happy"}, "state: 'happy'"),
        ({"job": 0}, "job: 0"),
        ({"folder": 3}, "folder: 3"),
        ({"more": 1}, "more: .* has no such argument"),
        ({"fingerprint": "b" * 16}, "record of another job"),
    ],
)
def test_damaged_records_are_refused_in_one_line(tmp_path, change, said):
    (tmp_path / "jobs").mkdir()
    file = tmp_path / "jobs" / f"{'a' * 16}.json"
    JobRecord("a" * 16, [], 1, 2).write(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=said) as found:
        record.jobs(tmp_path)
    assert "\n" not in str(found.value)


def test_a_folder_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"sweep: .* is not the folder of a sweep"):
        SweepRecord.read(tmp_path)
