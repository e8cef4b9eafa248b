"""Methods of posterior sampling as rows on a trained run: the truth of each seed, and what methods are measured by."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scoresde import InputError, compare, load
from scoresde.cli.main import main
from scoresde.comparison import Inferred
from scoresde.comparison.inverse import covered
from scoresde.posterior import DPS, MMPS
from scoresde.runs.observed import Observed, error_of

OLD = Path(__file__).parent / "fixtures/d14582e"
POINTS, IMAGES = OLD / "run", OLD / "classes"
HALF = {"_target_": "scoresde.observation.Inpaint", "box": [0, 0, 4, 8], "sigma_y": 1.0}
SMALL = ["logger=none", "n=20", "seeds=2", "budgets=[4]", "device=cpu"]
SEEN = ["observation=inpaint", "observation.box=[0,0,4,8]", "observation.sigma_y=1"]
ITEM = [*SEEN, "observation.held_out=0"]


@pytest.fixture(scope="module")
def problem() -> Inferred:
    run = load(IMAGES, device="cpu")
    observed = Observed.of(run, {**HALF, "held_out": 3}, [])
    assert observed is not None
    return Inferred(observed, range(2))


def test_each_seed_observes_an_item_of_its_own(problem: Inferred) -> None:
    run = problem.run
    items = run.transform.decode(run.dataset().heldout[3:5].double())
    for seed, item in enumerate(items):
        truth, y = problem.seen(seed)
        assert truth is not None
        torch.testing.assert_close(truth, item)
        off = y - problem.observed.observation(truth[None])
        assert 0.6 < float(off.std()) < 1.4  # sigma_y
    assert not torch.equal(problem.seen(0)[1], problem.seen(1)[1])


def test_what_is_measured_is_what_its_words_say(problem: Inferred) -> None:
    found = compare(problem, posteriors=[DPS(), MMPS(2)], solvers="ddim", budgets=[3], n=20, seeds=2, metrics=[])
    assert [row.error for row in found.rows] == [None, None]
    assert [q.key for q in found.ranking] == ["psnr"]
    row, span = found.rows[0], 16.0
    assert all(own.values["products"][0] > 0 for own in found.rows)
    assert row.nfe == 3
    for k in range(2):
        truth, mean = problem.seen(k)[0], torch.as_tensor(row.items["mean"][k])
        assert truth is not None
        rmse = float((mean - truth).square().mean().sqrt())
        assert row.values["rmse"][k] == pytest.approx(rmse, rel=1e-6)
        assert row.values["psnr"][k] == pytest.approx(20 * math.log10(span / rmse), rel=1e-6)
    own = row.items["sample"][0]
    assert own.shape == (1, 8, 8)
    np.testing.assert_allclose(problem.run.transform.decode(row.shown[:1].double())[0], own, rtol=1e-4, atol=1e-3)
    assert list(found.items) == ["truth", "observation"]
    assert np.isnan(found.items["observation"][0][0, :4]).all()


def test_the_truth_itself_has_no_error_and_a_residual_of_one(problem: Inferred) -> None:
    truth, y = problem.seen(0)
    assert truth is not None
    x = problem.run.transform.encode(truth[None].float())
    off = (y - problem.observed.observation(truth[None])).square().mean().sqrt()
    assert float(problem.observed.residuals(y, x.double())[0]) == pytest.approx(float(off), rel=1e-4)
    assert error_of(truth, truth, problem.run) == {"rmse": 0.0}
    assert error_of(truth + 1.6, truth, problem.run)["psnr"] == pytest.approx(20.0)


def test_coverage_counts_the_values_of_the_truth_between_quantiles() -> None:
    """Of 1,000 samples 0.5, 1.5, ... and truths 0, 1, ..., value k has k samples below it."""
    x = (torch.arange(1000.0, dtype=torch.float64) + 0.5)[:, None].expand(1000, 1000)
    assert covered(x, torch.arange(1000.0, dtype=torch.float64)) == {"coverage_50": 0.501, "coverage_90": 0.901}


def test_the_command_makes_methods_rows_with_a_picture(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scoresde.comparison.output.quality", lambda *arguments: [])
    run = ["compare", f"run={IMAGES}", *SEEN, *SMALL]
    assert main([*run, "observation.held_out=1", "posteriors=[dps,replace]", "solvers=[ddim]", "out=known"]) == 0
    assert "By the signal-to-noise ratio" in capsys.readouterr().out
    content = json.loads(Path("known/results.json").read_text())
    assert [row["name"] for row in content["rows"]] == ["dps", "replace"]
    assert all(row["nfe"] == 4 for row in content["rows"])
    assert Path("known/items-4.png").stat().st_size > 3000
    assert "Seed k observes the held-out item of number held_out + k; intervals are over these." in content["notes"]
    np.save("y.npy", np.full((32,), 3.0))
    assert main([*run, "observation.measured=y.npy", "posteriors=[dps,replace]", "solvers=[ddim]", "out=measured"]) == 0
    assert "No sampler has a result that could be ranked." in capsys.readouterr().out
    (first, _) = json.loads(Path("measured/results.json").read_text())["rows"]
    assert first["values"].keys() == {"residual", "deviation", "products"}


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ([f"run={IMAGES}", *SEEN], "observation: no item is given"),
        ([f"run={IMAGES}", "observation.held_out=1"], "observation.held_out: nothing says what is seen"),
        ([f"run={IMAGES}", *SEEN, "observation.held_out=99999"], "held_out: 99999 is not allowed; seeds 0 to 1"),
        ([f"run={IMAGES}", *SEEN, "observation.held_out=-1"], "observation.held_out: -1 is not allowed"),
        ([f"run={IMAGES}", *ITEM, "posteriors=[exact]"], "posteriors: exact needs"),
        ([f"run={IMAGES}", *ITEM, "posteriors=[mmp]"], "mmp"),
        ([f"run={IMAGES}", *ITEM, "label=3", "guidance=[1,2]"], "given an observation"),
        ([f"run={IMAGES}", *ITEM, "metrics=[distances]"], "metrics: no samples"),
        ([f"run={POINTS}", "posteriors=[mmps]"], "posteriors: nothing is observed; give observation=inpaint"),
        (
            ["problem=mixture_2d", "observation=inpaint", "observation.held_out=0"],
            "observation: it is of items of a run",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    tmp_path: Path, monkeypatch: Any, capsys: Any, typed: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *typed, *SMALL, "out=out"]) == 2
    said = capsys.readouterr().err
    assert says in said, said
    assert said.count("\n") == 1
    assert not Path("out").exists()


def test_a_posterior_is_needed_for_each_row(problem: Inferred) -> None:
    with pytest.raises(InputError, match="posteriors: none needs"):
        problem.asked(problem.model(None, "cpu"), None, 0)
