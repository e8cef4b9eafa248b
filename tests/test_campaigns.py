"""The campaigns of benchmarks/ with small counts: what is killed ends as undisturbed, what is damaged is refused."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from test_record import cheap, trials

from scoresde.parallel import joined
from scoresde.training.heldout import heldout_loss

import calls  # isort: skip
import corrupted  # isort: skip
import hostile  # isort: skip
import killed  # isort: skip
import malformed  # isort: skip
import soak  # isort: skip

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")


@pytest.fixture(autouse=True)
def _cheap() -> Iterator[None]:
    with cheap():
        yield


def test_what_is_killed_ends_as_an_undisturbed_training(tmp_path: Path) -> None:
    for count in killed.campaign(1, 130, ["averages, snapshots", "data on the disk"], tmp_path):
        assert count.writes > 170
        assert count.killed >= 1
        assert count.wrong == []


def test_what_is_killed_ends_as_an_undisturbed_command(tmp_path: Path) -> None:
    for count in killed.campaign(1, 0, ["sample", "compare"], tmp_path):
        assert count.writes > 10
        assert count.wrong == []


def test_one_of_two_processes_killed_in_an_evaluation_ends_as_undisturbed(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("warm", "whole", "cut")]
    for place in places:
        place.mkdir()
    trials.train("plain", places[0])  # imports what all share

    def dying(*about: Any) -> float:
        if joined().rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return heldout_loss(*about)

    def cut() -> None:
        quick = mock.patch.multiple("scoresde.parallel.group", _BEAT=0.1, _GRACE=0.5)
        with quick, mock.patch("scoresde.training.loop.heldout_loss", dying):
            trials.call("two processes", places[2])

    code, said = trials.forked(cut)
    assert code == 2
    assert "parallel: another process" in said
    for place in places[1:]:
        assert trials.forked(lambda place=place: trials.call("two processes", place))[0] == 0
    assert trials.difference(*map(trials.content, places[1:])) == ""


def test_what_is_damaged_is_refused_or_harmless(tmp_path: Path) -> None:
    one = corrupted.Campaign(tmp_path)
    one.checkpoint("bit", 60, corrupted.flip, 0)
    one.checkpoint("cut", 10, corrupted.cut, 1)
    one.refusing(140)
    one.moving("moved", 96)  # between two writes, and within a checkpoint
    assert one.silent == []
    assert one.counts["bit", "refused"] + one.counts["bit", "harmless"] == 60
    assert one.counts["disk refuses", "refused"] >= 2
    assert one.counts["goes on, moved", "harmless"] == one.counts["folder moved", "refused"] >= 3


def test_silent_damage_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoresde.training.manifest._damage_of_file", lambda *about: None)
    one = corrupted.Campaign(tmp_path)
    one.checkpoint("bit", 60, corrupted.flip, 0)
    assert one.silent
    assert trials.difference({"a": 1, "b": 2}, {"a": 1, "c": 3}) == "b, c"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("called") / "here"
    with cheap(), calls.prepared(place):
        yield place


def test_malformed_calls_name_the_culprit_and_leave_all_as_it_was(here: Path) -> None:
    lines = malformed.spread([*malformed.of_keys(), *malformed.of_settings()], 3)
    assert malformed.campaign(lines)[1] == []
    line = malformed.Line("no mistake", ["list", "folder=."], ("nosuch",))
    (fault,) = malformed.campaign([line])[1]
    assert fault.startswith("status 0, ")
    assert "does not name nosuch" in fault


def test_hostile_calls_are_refused_and_what_they_do_is_seen(here: Path) -> None:
    kinds = [[*hostile.targets(2)], [*hostile._weights()][-4:-1], [*hostile.tricks(3)][:1]]
    rows, wrong = hostile.campaign(kinds, megabytes=float("inf"))
    assert wrong == []
    assert [row.split()[1:4] for row in rows[1:4]] == [["2", "2", "0"], ["3", "3", "0"], ["1", "1", "0"]]
    proof = here.parent / "proof"

    def harm() -> None:
        hostile.spied(here)()
        os.system("true")
        proof.write_text("")

    seen = hostile.faults(calls.answer(["--version"], harm), proof)
    assert all(word in seen for word in ("executed os.system", "written open", "its file is there"))
    proof.unlink()


def test_growth_is_that_of_what_is_held(here: Path) -> None:
    before = soak.held()
    Path("tmp", "left").write_text("")
    with Path("t.npy").open("rb"):
        assert [a - b for a, b in zip(soak.held(), before, strict=True)][1:] == [1, 0, 1]
    rounds = soak.np.arange(50.0)[:, None] * soak.np.array([0, 1, 2, -1]) * len(soak.JOBS)
    assert soak.growth(rounds) == [(0, 0), (1, 0), (2, 0), (-1, 0)]
