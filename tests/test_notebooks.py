"""Every notebook runs from top to bottom, and shows what is stored in it: small pictures."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# fewer steps and samples than in the notebooks, which show the same
SMALLER = {
    "01_first_score": {"range(1500)": "range(300)", "steps=300": "steps=30"},
    "02_compare_samplers": {
        **{"n = 1000\n": "n = 100\n", "n=3000": "n=100", "(3000": "(100", "n=250,": "n=20,", "12000": "1000"},
        **{"14, 20, 40, 80)": "14)", "budgets=[5, 10, 20]": "budgets=[5]", "seeds=4": "seeds=2"},
        **{"steps=6, seed=1": "steps=6, n=32, iterations=1, seed=1"},
    },
    "04_likelihood": {"steps=1500": "steps=10", "n = 80": "n = 8", "steps=30": "steps=4", "steps=15": "steps=3"},
    "05_inverse_problems": {
        **{
            "n = 1000": "n = 40",
            "12000": "400",
            "VPSDE()), 500": "VPSDE()), 12",
            "steps=1200": "steps=10",
            "range(8)": "range(2)",
        },
        **{f"steps={steps})": "steps=3)" for steps in (50, 40, 30, 20, 8)},
        **{"particles=16": "particles=4", "121": "21"},
    },
    "03_lineage": {"n = 3000, 1000": "n = 40, 100", "steps=1000)": "steps=20)", "steps=100": "steps=10", "500)": "20)"},
}


def shown(notebook: Any) -> list[list[str]]:
    """What each cell of code shows: kinds of pictures, and words without numbers, which depend on the machine."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            data = [out.data for out in cell.outputs if out.output_type != "stream"]
            texts = [re.sub(r"-?\d[\d.e+-]*", "#", d["text/plain"]) for d in data if "image/png" not in d]
            found.append(["picture"] * sum("image/png" in d for d in data) + texts)
    return found


@pytest.mark.filterwarnings("default")  # the notebook server's own warnings are not ours
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_and_shows_what_is_stored(path):
    notebook, stored = (nbformat.read(path, as_version=4) for _ in range(2))
    for large, small in SMALLER[path.stem].items():
        assert any(large in cell.source for cell in notebook.cells)
        for cell in notebook.cells:
            cell.source = cell.source.replace(large, small)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": path.parent}}).execute()
    assert shown(notebook) == shown(stored)
    assert sum(kinds.count("picture") for kinds in shown(stored)) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_stored_with_its_outputs_and_small(path):
    assert path.stat().st_size < 300_000
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any("error" in out.output_type for cell in cells for out in cell.outputs)
