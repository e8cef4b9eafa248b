"""The distances that docstrings and the page state were measured, and measured again they are the same."""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from scoresde import posterior
from scoresde.posterior import Method

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
import inverse  # noqa: E402
import posterior as benchmark  # noqa: E402
from posterior import checked, own_rows  # noqa: E402
from posterior_figures import TABLES, Figures, comparison, quoted  # noqa: E402

FIGURES, PAGE = Figures("mixture_8d"), (ROOT / "docs" / "posterior.md").read_text(encoding="utf-8")
REMEDY = "python benchmarks/posterior.py --only NAME, then quote its figures in the docstring and --tables in the page"
DPS = ["dps, zeta=0.1", "dps, zeta=0.3", "dps, zeta=1"]
# rows that the docstring of each method quotes, in its order
QUOTED = {
    "MMPS": ["mmps"],
    "PiGDM": ["pigdm", "pigdm, sigma_data=0.25"],
    "DiffPIR": ["diffpir"],
    "DPS": DPS,
    "Gibbs": ["gibbs"],
    "DAPS": ["daps"],
    "Replace": ["replace"],
    "RePaint": ["repaint"],
    "Population": ["population", "exact denoiser"],
    "Twisted": ["twisted, 200 calls"],
}


@pytest.mark.parametrize("name", QUOTED)
def test_a_docstring_states_what_was_measured(name: str) -> None:
    text = " ".join((getattr(posterior, name).__doc__ or "").split())
    assert quoted(text) == [str(cell) for row in QUOTED[name] for cell in FIGURES.cells(row)], REMEDY
    assert f"{FIGURES.problems} problems, n = {FIGURES.n:,}" in text


def test_every_method_states_its_figures() -> None:
    methods = [getattr(posterior, name) for name in posterior.__all__]
    kinds = [one for one in methods if inspect.isclass(one) and issubclass(one, Method) and not inspect.isabstract(one)]
    assert {kind.__name__ for kind in kinds} == set(QUOTED)


def test_the_page_states_what_was_measured() -> None:
    for table in TABLES:
        assert "\n".join(table()) in PAGE, REMEDY
    assert comparison() in " ".join(PAGE.split()), REMEDY
    rest = re.sub(r"^\|.*$", "", PAGE, flags=re.MULTILINE)
    assert not quoted(rest)  # no figure without an owner


@pytest.mark.parametrize("name", own_rows())
def test_a_method_is_as_near_as_when_it_was_measured(name: str) -> None:
    """Samples are a function of the seed, so what is another number is another method: its figures are due again."""
    assert checked(own_rows()[name]) == pytest.approx(FIGURES.rows[name]["check"], rel=1e-6), REMEDY


def test_a_row_that_is_measured_takes_the_place_of_an_earlier_one(tmp_path, monkeypatch, capsys) -> None:
    file = tmp_path / "rows.json"

    def measured(script: Any, *words: str) -> Figures:
        monkeypatch.setattr(sys, "argv", ["", *words, "--out", str(file)])
        script.main()
        return Figures("any", file)

    words = ["--problem", "mixture_2d", "--n", "20", "--problems", "2", "--only"]
    first = measured(benchmark, *words, "exact", "replace")
    again = measured(benchmark, *words, "replace")
    assert list(first.rows) == list(again.rows) == ["exact denoiser", "replace"]
    assert again.rows["replace"] == first.rows["replace"]
    with pytest.raises(SystemExit, match=r"--out: .* n = 20 and 2 problems; give another file"):
        measured(benchmark, "--n", "30", "--only", "replace")
    file.unlink()
    ring = measured(inverse, "inverse_modes", "--n", "20", "--seeds", "2", "--only", "exact").rows["exact denoiser"]
    assert 0 < ring["modes"] <= 1
    file.unlink()
    ranks = measured(inverse, "inverse_modes", "--n", "9", "--seeds", "20", "--ranks", "--only", "exact draws")
    (low, _), (high, half) = ranks.rows["exact draws"]["covered"]
    assert low < high
    assert abs(high - 0.9) < 2 * half
