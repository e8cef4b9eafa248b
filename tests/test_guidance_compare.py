"""Guidance as rows of a comparison: exact targets with floors, diversity beside fidelity, and counted budgets."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from scoresde import Conditioned, InputError, Sampler, compare
from scoresde.cli.main import main
from scoresde.comparison import Candidate, Guidance, MixtureClasses, fitting, guidances
from scoresde.comparison.budget import spent
from scoresde.comparison.entries import Defaults, candidates
from scoresde.comparison.guided import spread
from scoresde.comparison.problems import plain_transform
from scoresde.conditional import ConditionalMixture, ExactConditional
from scoresde.control import Guided
from scoresde.data import Dataset
from scoresde.data.dataset import CLASS
from scoresde.metrics import Diversity, SlicedWasserstein
from scoresde.mixture import GaussianMixture
from scoresde.noise import derived_seed
from scoresde.posterior import Exact
from scoresde.results import Results
from scoresde.results.verdict import verdict
from scoresde.sampling import Heun
from scoresde.sde import VPSDE

CLASSES = Path(__file__).parent / "fixtures/d14582e/classes"
NO_CLASSES = CLASSES.with_name("run")
SMALL = ["logger=none", "n=20", "seeds=2", "device=cpu"]


@pytest.fixture(scope="module")
def found() -> Results:
    exact = {"guidance_method": "exact", "particles": 8}
    return compare(
        MixtureClasses(), guidance=[1, 4], guidance_methods=["cfg", exact], budgets=[500], n=250, seeds=3,
        solvers="heun", metrics=[SlicedWasserstein(100), Diversity()],
    )  # fmt: skip


def test_each_scale_has_the_floor_of_its_own_target(found: Results) -> None:
    assert [(row.name, row.target) for row in found.rows] == [
        ("cfg 1", "guidance 1"), ("cfg 4", "guidance 4"), ("exact particles=8 1", "guidance 1"),
        ("exact particles=8 4", "guidance 4"),
    ]  # fmt: skip
    assert not found.floors
    assert list(found.parts) == ["guidance 1", "guidance 4"]
    for name, part in found.parts.items():
        assert {row.target for row in part.rows} == {name}
        assert part.floors == found.targets[name]
    stored = Results.of_content(json.loads(json.dumps(found.content())), "here")
    assert (stored.targets, str(stored), verdict(stored)) == (found.targets, str(found), verdict(found))
    assert [line[0] for line in found.flat()][-2:] == [f"floor (real data, guidance {w})" for w in (1, 4)]


def test_the_real_data_of_a_scale_are_draws_of_what_it_claims_to_sample() -> None:
    problem = MixtureClasses(label=1, seed=3)
    (real,) = problem.target(Guidance(3.0)).real(50, [7])
    drawn = [problem.data.tilted(1, 3.0, 50, derived_seed(7, purpose, 0)).float() for purpose in ("floor", "real")]
    assert torch.equal(real.train, drawn[0])
    assert torch.equal(real.heldout, drawn[1])
    assert problem.target(None) is problem
    (plain,) = problem.real(50, [7])
    far = [problem.data.log_classes(x.double())[:, 1].mean() for x in (plain.heldout, real.heldout)]
    assert far[0] < far[1] < 0


def test_the_label_alone_is_at_its_floor_and_exact_guidance_is_nearer_to_its_target(found: Results) -> None:
    floors = {name: sum(part.floors["sliced_wasserstein"]) for name, part in found.parts.items()}
    far = {row.name: sum(row.values["sliced_wasserstein"]) / floors[row.target] for row in found.rows}
    assert far["cfg 1"] < 1.7
    assert far["cfg 4"] > 3.4
    assert far["exact particles=8 4"] < 0.75 * far["cfg 4"]
    assert all(0 < row.nfe <= 500 for row in found.rows)


def test_the_verdict_speaks_of_each_target_and_the_table_has_a_floor_for_each(found: Results) -> None:
    first, *rest = verdict(found)
    assert first.startswith("Guidance 1: Use ")
    assert " Guidance 4: Use exact particles=8 4: " in first
    assert [line for line in rest if line.endswith("guidance 4:")]
    assert [line.split("  ")[0] for line in str(found).splitlines() if line.startswith("floor")] == [
        "floor: real data, guidance 1", "floor: real data, guidance 4",
    ]  # fmt: skip
    assert found._repr_html_().count("floor: real data") == 2


def test_guidance_costs_diversity(found: Results) -> None:
    rows = {row.name: row for row in found.rows}
    for key in ("spread", "recall", "coverage"):
        assert max(rows["cfg 4"].values[key]) < min(rows["cfg 1"].values[key])
    assert abs(sum(rows["cfg 1"].values["spread"]) / 3 - 1) < 0.1
    assert rows["cfg 4"].interval("precision").mean > 0.95


def test_spread_is_that_within_classes() -> None:
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(400) % 2
    moved = x + 50.0 * labels[:, None]
    real = Dataset(moved, moved, plain_transform((3,)), {CLASS: labels}, {CLASS: labels})
    centre = torch.stack([moved[labels == c].mean(0) for c in (0, 1)])[labels]
    measured = spread(centre + 0.7 * (moved - centre), labels, real)["spread"]
    assert measured.value == pytest.approx(0.7, rel=1e-6)
    assert measured.floor == pytest.approx(1.0)
    turned = spread(moved.flip(0), labels.flip(0), real)["spread"]  # classes in another order
    assert turned.value == pytest.approx(1.0)


@pytest.mark.parametrize("budget", [120, 500])
def test_a_budget_holds_for_guidance_with_steps_of_its_own(budget: int) -> None:
    data = ConditionalMixture(GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[[0.1]]] * 2), [0, 1])
    model = ExactConditional(data, VPSDE())
    strong, weak = Conditioned(model, [0]), Conditioned(model, [0], 0.0)
    guided = Guided(strong, weak, 3.0, method=Exact(particles=4))
    candidate = Candidate("heun", Heun())
    steps = fitting(candidate, budget, guided, (1,))
    drawn = candidate.sampler(steps).sample(guided, n=3)
    assert drawn.nfe == spent(candidate.sampler(steps), guided, (1,)) <= budget
    assert spent(candidate.sampler(steps + 1), guided, (1,)) > budget
    (row,) = compare(guided, data.of_class(0), solvers="heun", budgets=[budget], n=20, seeds=2, metrics=[]).rows
    assert (row.steps, row.nfe, row.error) == (steps, drawn.nfe, None)
    with_interval = Guided(strong, weak, 3.0, (0.2, 3.0))
    inside = Sampler(Heun(), steps=20)
    assert inside.sample(with_interval, n=2).nfe == spent(inside, with_interval, (1,))


def test_entries_name_methods_scales_and_intervals() -> None:
    (own,) = candidates("auto", Defaults())
    entries = ["apg", {"guidance_method": "cfg", "interval": [0.2, 3]}, {"guidance_method": "cfgpp", "scale": 0.6}]
    named = {one.name: one.method for one in guidances([2, 3], entries, [own])}
    assert list(named) == ["apg 2", "apg 3", "cfg interval=[0.2,3] 2", "cfg interval=[0.2,3] 3", "cfgpp 0.6"]
    assert named["cfg interval=[0.2,3] 3"].interval == (0.2, 3.0)
    assert named["cfgpp 0.6"].scale == 0.6
    assert [one.name for one in guidances(2, None, candidates(["heun", "ddim"], Defaults()))] == ["heun", "ddim"]


def test_the_command_puts_diversity_beside_fidelity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scoresde.comparison.output.quality", lambda *arguments: [])
    monkeypatch.setattr("scoresde.comparison.output.pictures", lambda *arguments: [])
    run = [f"run={CLASSES}", "solvers=[ddim]", "budgets=[8]", *SMALL]
    assert main(["compare", *run, "label=[3,7]", "guidance=[1,2]", "guidance_interval=[0.2,30]", "out=both"]) == 0
    content = json.loads(Path("both/results.json").read_text())
    rows = {row["name"]: row for row in content["rows"]}
    assert list(rows) == ["cfg 1", "cfg 2"]
    assert rows["cfg 1"]["nfe"] == 8 >= rows["cfg 2"]["nfe"] > 6
    assert rows["cfg 2"]["steps"] < 8
    assert {"sliced_wasserstein", "precision", "recall", "density", "coverage", "spread"} <= rows["cfg 2"][
        "values"
    ].keys()
    assert {"spread", "coverage"} <= content["floors"].keys()
    assert "Guidance acts from 0.2 to 30 in sigma / alpha." in content["notes"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (
            [f"run={NO_CLASSES}", "label=3", "guidance=[1,2]"],
            "label: 3 is not allowed; this network was",
        ),
        ([f"run={NO_CLASSES}", "guidance=[1,2]"], "guidance: 2.0 is not allowed; it needs a label"),
        ([f"run={CLASSES}", "label=3", "guidance=[]"], "guidance: [] is not allowed"),
        ([f"run={CLASSES}", "label=3", "guidance=[1,-1]"], "guidance: [1.0, -1.0] is not allowed"),
        ([f"run={CLASSES}", "label=3", "guidance=[2]", "guidance_methods=[cgf]"], "cgf"),
        ([f"run={CLASSES}", "label=3", "guidance=2", "guidance_methods=[{a: 1}]"], "write {guidance_method: NAME"),
        ([f"run={CLASSES}", "label=3", "guidance=[2]", "guidance_interval=[3,1]"], "guidance_interval: "),
        ([f"run={CLASSES}", "label=3", "guidance=[2]", "guidance_methods=[exact]", "guidance_interval=[1,3]"], "exact"),
        (
            [f"run={CLASSES}", "label=3", "guidance=[2]", "posteriors=[mmps]"],
            "posteriors: given together with",
        ),
        ([f"run={CLASSES}", "label=3", "guide_weights=raw"], "guide_weights: raw is that of a folder"),
        (["problem=mixture_2d", "guidance=2"], "guidance: this problem has no classes"),
        (["problem=mixture_classes", "problem.label=2", "guidance=2"], "label: 2 is not allowed"),
        (["problem=mixture_classes", "problem.components=1"], "components: 1 is not allowed"),
        (["problem=mixture_classes", "guidance=2", f"guide={CLASSES}"], "guide: "),
        (["problem=mixture_classes", "guidance=[2]", "guidance_methods=[cfgpp]"], "cfgpp is not defined for Auto"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *typed, *SMALL, "budgets=[8]", "out=out"]) == 2
    said = capsys.readouterr().err
    assert says in said, said
    assert said.count("\n") == 1
    assert not Path("out").exists()


def test_a_guide_leads_a_run_and_nothing_else() -> None:
    with pytest.raises(InputError, match=r"guidance: -1\.0 is not allowed"):
        guidances(-1, None, candidates("auto", Defaults()))
    with pytest.raises(InputError, match="guidance_interval: "):
        Guidance(2.0, None, (3.0, 1.0))
    problem: Any = MixtureClasses()
    with pytest.raises(InputError, match="posteriors: nothing is observed"):
        problem.asked(problem.model(VPSDE(), "cpu"), Exact(), 0)
