"""The distances that the page on guidance states were measured, and exact guidance still samples what it claims."""

import json
import sys
from pathlib import Path

import pytest

from scoresde.results.interval import student

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
from guidance import PROBLEMS, distances, rows  # noqa: E402

MEASURED = json.loads(max((ROOT / "benchmarks" / "results").glob("guidance-*.json")).read_text())["distances"]
PAGE = (ROOT / "docs" / "guidance.md").read_text(encoding="utf-8")


def test_the_page_states_what_was_measured() -> None:
    for name in rows(3.0):
        cells = [str(student(MEASURED[f"w = 3, {problem}"][name])) for problem in PROBLEMS]
        assert f"| {name} | {' | '.join(cells)} |" in PAGE
    said = {}
    for name in ("exact", "cfg, ODE"):
        means = [student(MEASURED[f"w = 1.5, {problem}"][name]).mean for problem in PROBLEMS]
        said[name] = f"between {min(means):.1f} and {max(means):.1f}"
    assert f"At w = 1.5 `exact` is {said['exact']} times the floor on all four, and `cfg` on the ODE" in PAGE
    assert said["cfg, ODE"] in " ".join(PAGE.split())


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_exact_guidance_is_within_three_floors_and_classifier_free_guidance_is_not(scale: float) -> None:
    found = distances(PROBLEMS["2-D, seed 1"], scale, 200, 1, ["exact", "cfg, ODE"])
    assert found["exact"][0] < 3 < found["cfg, ODE"][0]
