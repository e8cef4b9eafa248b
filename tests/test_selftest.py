"""The pathology matrix: what is planted is what is said, alarms are as rare as they are meant to be, and its pages."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scoresde.cli.main import main
from scoresde.data import Dataset, Digits, Transform
from scoresde.errors import InputError
from scoresde.metrics import Copies, FeatureQuality, Profiles
from scoresde.results import Metric, Quantity
from scoresde.results.matrix import Found, Matrix, alarm_limits
from scoresde.workflows.diseases import DISEASES, Disease, Real
from scoresde.workflows.selftest import Remembered, SelfTest, write

BY_NAME = {one.name: one for one in reversed(DISEASES)}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return Digits().load()


class Mean(Metric):
    """Sees the mean level and the number of samples, and nothing else."""

    quantities = (Quantity("mean"), Quantity("rows", direction="higher"))

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        return {"mean": float(samples.double().mean()), "rows": len(samples)}


def test_further_values_like_those_of_the_limits_are_beyond_them_as_often_as_is_said() -> None:
    rng, outside = np.random.default_rng(0), {"lower": [], "higher": [], None: []}
    for direction, many in outside.items():
        for _ in range(400):
            low, high = alarm_limits(rng.exponential(size=60).tolist(), direction)
            many.append(np.mean([not low <= value <= high for value in rng.exponential(size=200)]))
        assert 0.02 < np.mean(many) <= 0.05 + 3.5 * np.std(many) / 20, direction
    assert alarm_limits([1.0, math.nan, 2.0], None) == (-math.inf, math.inf)
    assert alarm_limits(list(range(1, 40)), "lower") == (-math.inf, 38)
    assert alarm_limits(list(range(1, 40)), "higher") == (2, math.inf)


def test_the_parts_of_a_division_are_disjoint_and_those_of_another_are_others(digits: Dataset) -> None:
    real = Real(digits, 100, 900)
    parts = [real.part(0), real.part(1)]
    for part in parts:
        assert (len(part.heldout), len(part.fresh), len(part.train)) == (100, 200, 600)
        assert len(set(np.concatenate(list(vars(part).values())))) == 900
    assert set(parts[0].train) != set(parts[1].train)
    dataset = real.dataset(parts[0])
    assert torch.equal(dataset.heldout, real.items[parts[0].heldout])
    assert torch.equal(dataset.train_labels, real.labels[parts[0].train])


def test_what_is_planted_is_what_is_said(digits: Dataset) -> None:
    real = Real(digits, 200, 1700)
    part, step = real.part(3), 1 / digits.transform.scale
    healthy, train = real.samples(part), real.items[part.train].flatten(1)

    def ill(name: str, dose: float) -> Tensor:
        return real.infected(BY_NAME[name], dose, part, 3)

    for one in DISEASES:
        found = ill(one.name, one.doses[0]) if one is BY_NAME[one.name] else healthy[:1]
        levels = digits.transform.decode(found)
        assert torch.equal(levels, levels.round()), "samples are levels, as they are saved"
        assert bool(((levels >= 0) & (levels <= 16)).all())
    inner = (digits.transform.decode(healthy) > 2) & (digits.transform.decode(healthy) < 16)
    for dose in BY_NAME["truncated"].doses:
        assert float((healthy - ill("truncated", dose))[inner].mean() / step) == pytest.approx(dose, abs=0.03)
    assert float((ill("noise", 2.0) - healthy)[inner].std() / step) == pytest.approx(2, rel=0.12)
    assert set(digits.transform.decode(ill("quantised", 4.0)).unique().tolist()) == {0, 4, 8, 12, 16}
    shifted = ill("shift", 0.5)
    assert torch.equal(shifted[100:], healthy[100:])
    assert torch.equal(shifted[:100, ..., 1:], healthy[:100, ..., :-1])
    assert len(ill("wrong n", 0.4)) == 80
    assert torch.equal(ill("repeats", 0.2), torch.cat([healthy[:160], healthy[:40]]))
    for dose in BY_NAME["copies"].doses:
        nearest = torch.cdist(ill("copies", dose).flatten(1), train).min(1).values
        assert int((nearest < 1e-3).sum()) == round(200 * dose)
        noisy = torch.cdist(ill("noisy copies", dose).flatten(1), train).min(1).values
        assert int((noisy < 1e-3).sum()) == 0
        assert int((noisy < 0.25 * float(nearest[-50:].median())).sum()) >= 0.9 * round(200 * dose)
    labels = {row.numpy().tobytes(): int(label) for row, label in zip(real.items, real.labels, strict=True)}
    whole = np.bincount(real.labels, minlength=10) / 1700
    for name, dose, factor in (("class missing", 0.75, 0.25), ("class missing", 1.0, 0), ("class doubled", 2.0, 2)):
        counts = np.bincount([labels[row.numpy().tobytes()] for row in ill(name, dose)], minlength=10)
        assert counts.sum() == 200
        ratio = counts / (200 * whole)
        odd = ratio.argmax() if factor > 1 else ratio.argmin()
        assert ratio[odd] == pytest.approx(factor, abs=0.03)
    blurred = [float((ill("blur", dose) - healthy).square().mean()) for dose in BY_NAME["blur"].doses]
    assert 0 < blurred[0] < blurred[1] < blurred[2]


def test_a_metric_finds_what_it_can_see_and_raises_few_false_alarms(digits: Dataset) -> None:
    test = SelfTest({"mean": Mean()}, digits, n=200, repeats=3, resamplings=80)
    steps: list[int] = []
    matrix = test(lambda: steps.append(1))
    assert len(steps) == test.work
    first = {name: matrix.found[name, "mean"].first for name in matrix.diseases}
    assert first["contrast"] is not None
    assert first["wrong n"] is first["copies"] is first["shift"] is None
    assert matrix.found["wrong n", "rows"].rates == [1, 1, 1]
    assert all(matrix.found[name, "rows"].first is None for name in matrix.diseases if name != "wrong n")
    assert max(matrix.false.values()) <= 0.15
    assert test().content() == matrix.content()


def test_networks_are_asked_once_for_each_item_and_the_same_is_found(digits: Dataset) -> None:
    class Counting(nn.Module):
        seen = 0

        def forward(self, x: Tensor) -> Tensor:
            Counting.seen += len(x)
            return x.flatten(1)[:, 20:24]

    network, x = Remembered(Counting()), digits.train[:30]
    assert torch.equal(network(torch.cat([x, x[:7]])), torch.cat([x, x[:7]]).flatten(1)[:, 20:24])
    network(x.flip(0))
    assert Counting.seen == 30
    few = Dataset(
        digits.items[:200],
        digits.heldout[:20],
        digits.transform,
        {"class": digits.labels[:200]},
        {"class": digits.heldout_labels[:20]},
    )
    settings = {"n": 40, "repeats": 1, "resamplings": 78}
    matrix = SelfTest({"quality": FeatureQuality(nn.Flatten()), "copies": Copies(cells=2)}, few, **settings)()
    assert {"kernel_distance", "copy_share"} <= set(matrix.quantities)


def test_points_have_the_diseases_that_make_sense() -> None:
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    data = Dataset(x[:300], x[300:], Transform("points", (2,)))
    matrix = SelfTest({"p": Profiles()}, data, repeats=1, resamplings=78)()
    assert list(matrix.diseases) == ["noise", "contrast", "copies", "noisy copies", "repeats", "wrong n"]
    assert matrix.n == 100
    assert matrix.diseases["noise"][0] == "10% of a deviation"
    with pytest.raises(InputError, match="20 items are too few; give 80"):
        SelfTest({"p": Profiles()}, Dataset(x[:15], x[15:20], Transform("points", (2,))))
    with pytest.raises(InputError, match="metrics: none is given"):
        SelfTest({}, data)


def test_the_command_writes_a_page_and_its_mistakes_are_one_line(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["evaluate", "selftest", "data=moons", "data.n=80", "metrics=[profiles]", "resamplings=78", "repeats=1"]
    assert main([*few, "out=out"]) == 0
    said = capsys.readouterr().out
    assert "moons, n = 20" in said
    assert json.loads(Path("out/selftest.json").read_text())["metrics"].keys() == {"moments"}
    assert main(["evaluate", "selftest", "run=out"]) == 2
    for arguments, line in (
        (["data.n=79"], "data: 79 items are too few; give 80 or more"),
        (["resamplings=77"], "resamplings: 77 is not allowed; give an integer >= 78"),
        (["n=0"], "n: 0 is not allowed"),
        (["run=out", "data=moons"], "data: the run has its own data"),
        (["metrics=[classifier]"], "features: "),
    ):
        capsys.readouterr()
        assert main([*few, *arguments, "out=other"]) == 2
        assert line in capsys.readouterr().err
        assert not Path("other").exists()


def matrix() -> Matrix:
    quantities = {key: Quantity(key, words=f"what {key} is", direction="lower") for key in ("keen", "dull")}
    diseases = {"blur": ["of 1", "of 2", "of <3>"], "noise": ["a", "b", "c"]}
    found = {("blur", "keen"): Found([0.9, 1, 1]), ("blur", "dull"): Found([0, 0.5, 0.8])}
    found |= {("noise", "keen"): Found([0, 0.7, 0.9]), ("noise", "dull"): Found([0, 0, 0])}
    limits = {"keen": (-math.inf, 1.0), "dull": (-math.inf, 2.0)}
    return Matrix(100, 100, 10, quantities, diseases, limits, {"keen": 0.04, "dull": 0.05}, found)


def test_it_says_what_is_found_and_what_is_missed() -> None:
    said = "\n".join(matrix().said())
    assert "Not found at the lightest dose by any metric: noise." in said
    assert "blur of 1: keen" in said
    assert matrix().missed()["keen"] == "finds late noise (from: c)"
    assert matrix().missed()["dull"] == "never finds noise; finds late blur (from: of <3>)"
    for width in (80, 120):
        lines = matrix().text(width).splitlines()
        assert all(len(line) <= width for line in lines)
        assert lines[1].split() == ["keen", "1", "3", "4%"]
        assert lines[2].split() == ["dull", "3", ".", "5%"]


def test_pages_and_files_hold_the_same(tmp_path: Path) -> None:
    paths = write(tmp_path / "out", matrix(), "some data", {"n": 100})
    html, data, table = (path.read_text(encoding="utf-8") for path in paths)
    assert "of &lt;3&gt;" in html
    assert "some data" in html
    assert "src=" not in html
    stored = json.loads(data)
    assert stored["metrics"]["keen"]["alarms"] == {"blur": [0.9, 1, 1], "noise": [0, 0.7, 0.9]}
    assert stored["metrics"]["keen"]["limits"] == [None, 1.0]
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == 12
    assert [row["dose"] for row in rows if row["found"] == "True"] == ["of 1", "of 2", "of <3>", "of <3>", "c"]


def test_every_disease_names_its_doses() -> None:
    for one in DISEASES:
        assert one.dose.format(one.doses[0]) != one.dose
        assert isinstance(replace(one), Disease)
