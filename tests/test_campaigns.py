"""The campaigns of benchmarks/ with small counts: what is killed ends as undisturbed, what is damaged is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_record import cheap, trials

import corrupted  # isort: skip
import killed  # isort: skip

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
    monkeypatch.setattr("scoresde.training.checkpoint._damage_of_file", lambda *about: None)
    one = corrupted.Campaign(tmp_path)
    one.checkpoint("bit", 60, corrupted.flip, 0)
    assert one.silent
    assert trials.difference({"a": 1, "b": 2}, {"a": 1, "c": 3}) == "b, c"
