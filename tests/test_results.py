"""Results: a metric declares itself, rows keep what was measured, and one table shows it in every form."""

import csv
import io
import json
import math
import re

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from scoresde.data import Dataset, Transform
from scoresde.errors import InputError
from scoresde.metrics import EnergyDistance, FrechetDistance, SlicedWasserstein
from scoresde.results import Measurement, Metric, Quantity, Results, Row, Scorer
from scoresde.results.table import legend
from scoresde.results.verdict import verdict


class HitRatio(Metric):
    """The share of samples in the unit ball. The suffix of its key means nothing."""

    quantities = (Quantity("hit_ratio", "hits", "share of samples in the unit ball", "", "", "higher", "train"),)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        return {"hit_ratio": float((samples.flatten(1).norm(dim=1) < 1).double().mean())}


def points(n: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def data() -> Dataset:
    return Dataset(points(60), points(50, seed=1), Transform("points", (2,)))


def results(data: Dataset, **scales: float) -> Results:
    """Samples that are too wide or too narrow, three seeds each."""
    found, scorer = Results("points", 40, 3), Scorer({"hits": HitRatio(), "w": SlicedWasserstein(20)}, data)
    for name, scale in scales.items():
        row = Row(name, "vp", budget=5, steps=5, nfe=5, seconds=[0.1, 0.2, 0.3])
        for seed in range(3):
            found.add(row, scorer(points(40, scale, 7 + seed)), scorer.quantities)
        found.rows.append(row)
    return found


# ---- measuring ----


def test_a_floor_is_what_as_many_real_items_reach(data: Dataset) -> None:
    found = Scorer([HitRatio()], data)(points(20, 3.0))["hit_ratio"]
    assert found.floor == HitRatio()(data.train[::3], data)["hit_ratio"] > found.value


def test_the_spread_of_floors_is_that_of_disjoint_training_items() -> None:
    many = Dataset(points(500), points(50, seed=1), Transform("points", (2,)))
    own = SlicedWasserstein(20)
    found = Scorer([own, HitRatio()], many).floors(70)
    assert found["sliced_wasserstein"] == [own(many.train[k::5][:70], many)["sliced_wasserstein"] for k in range(5)]
    assert found["hit_ratio"] == [HitRatio()(many.train[k::5][:70], many)["hit_ratio"] for k in range(5)]
    three = Scorer([HitRatio()], many).floors(150)["hit_ratio"]  # of which there are three sets
    assert three == [HitRatio()(many.train[k::3][:150], many)["hit_ratio"] for k in range(3)]
    assert Scorer([HitRatio()], many).floors(300) == {}
    few = Scorer([own], many).floors(300)["sliced_wasserstein"]  # sets of 100, with the level of 300
    raw = [own(many.train[k::5], many)["sliced_wasserstein"] for k in range(5)]
    level = Scorer([own], many)(points(300))["sliced_wasserstein"].floor
    assert np.mean(few) == pytest.approx(level)
    assert np.array(few) / few[0] == pytest.approx(np.array(raw) / raw[0])
    assert Scorer([own], Dataset(points(60), points(50), Transform("points", (2,)))).floors(40) == {}


def test_floors_are_computed_once(data: Dataset) -> None:
    calls: list[int] = []

    class Counted(HitRatio):
        def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
            calls.append(len(samples))
            return super().__call__(samples, dataset)

    scorer = Scorer([Counted()], data)
    for n in (30, 30, 20):
        scorer(points(n))
    assert sorted(calls) == [20, 20, 30, 30, 30]


def test_anything_that_returns_numbers_is_a_metric(data: Dataset) -> None:
    scorer = Scorer({"mine": lambda samples, dataset: {"mean_floor": float(samples.mean())}}, data)
    assert scorer(torch.ones(3, 2)) == {"mean_floor": Measurement(1.0)}
    assert scorer.quantities["mean_floor"].direction is None


def test_scalars_name_value_floor_and_ratio(data: Dataset) -> None:
    scorer = Scorer([SlicedWasserstein(20), HitRatio()], data)
    found = scorer.scalars(points(40))
    assert found["sliced_wasserstein_ratio"] == found["sliced_wasserstein"] / found["sliced_wasserstein_floor"]
    assert set(found) == {"hit_ratio", "hit_ratio_floor", *(f"sliced_wasserstein{e}" for e in ("", "_floor", "_ratio"))}
    directions = [scorer.direction(k) for k in ("hit_ratio", "sliced_wasserstein_ratio", "heldout_loss")]
    assert directions == ["higher", "lower", "lower"]


def test_two_metrics_of_one_quantity_are_refused(data: Dataset) -> None:
    with pytest.raises(InputError, match="energy_distance is measured by two"):
        Scorer([EnergyDistance(), EnergyDistance(unbiased=False)], data)
    with pytest.raises(InputError, match=r"Flat must return one tensor \(B, ...\)"):
        Scorer([FrechetDistance(Flat())], data)(points(9))


class Flat(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum()


# ---- one table ----


def test_every_form_of_the_table_shows_every_quantity(data: Dataset) -> None:
    found = results(data, narrow=0.3, right=1.0)
    hits = found.rows[0].interval("hit_ratio")
    text, html = str(found).splitlines(), found._repr_html_()
    assert text[0].split()[:6] == ["sampler", "budget", "steps", "NFE", "seconds", "hits"]
    assert str(hits) in text[2]
    assert text[-1].startswith("floor: real data")
    for part in (">hits<", ">sliced W<", str(hits), f'data-v="{hits.mean}"', "class='floor first'"):
        assert part in html
    table = list(csv.DictReader(io.StringIO(found.csv())))
    assert [float(line["hit_ratio"]) for line in table[:2]] == [r.interval("hit_ratio").mean for r in found.rows]
    assert legend(found)["hits"] == "share of samples in the unit ball; higher is better"


def test_results_are_read_as_they_were_written(data: Dataset) -> None:
    found = results(data, narrow=0.3, right=1.0)
    found.rows.append(Row("broken", "vp", 5, error="NaN", values={"hit_ratio": [math.nan]}, halves={"hit_ratio": 0.1}))
    again = Results.of_content(json.loads(json.dumps(found.content())), "here")
    assert str(again) == str(found)
    assert again.content() == found.content()
    assert again.quantities == found.quantities
    intervals = [row["intervals"] for row in found.content()["rows"]]
    assert [set(own) for own in intervals] == [{"hit_ratio", "sliced_wasserstein", "seconds"}] * 2 + [{"hit_ratio"}]
    assert intervals[0]["seconds"] == found.rows[0].interval("seconds")._asdict()
    for wrong in ({}, [], {"rows": [{"nme": "a"}]}):
        with pytest.raises(InputError, match="here: not results"):
            Results.of_content(wrong, "here")


def test_higher_is_better_where_a_quantity_says_so(data: Dataset) -> None:
    found = results(data, wide=3.0, narrow=0.3)
    assert found.ranking[0].key == "hit_ratio"
    assert found.best() == found.rows[1].interval("hit_ratio").mean
    assert found._repr_html_().count(' best"') == 2  # one for each quantity
    said = verdict(found)
    assert said[2] == "By the share of samples in the unit ball:"
    assert said[3].startswith("  5 evaluations: narrow, ")
    assert "better than wide by 0." in said[3]
    assert "not distinguishable from real data" in said[3]  # more hits than real data have


def test_the_table_has_room_on_a_telephone_and_for_six_quantities(data: Dataset) -> None:
    """Columns that do not fit are there, and are shown if they are asked for."""
    found = results(data, right=1.0)
    for k in range(7):
        found.quantities[f"q{k}"] = Quantity(f"q{k}", direction="lower")
        found.rows[0].values[f"q{k}"] = [1.0, 2.0, 3.0]
    rooms = re.findall(r"<th class=(\w+)>(.+?)</th>", found._repr_html_())
    narrow, wide, more = ([heading for room, heading in rooms if room == kind] for kind in ("narrow", "wide", "more"))
    assert narrow == ["sampler", "budget", "hits"]
    assert wide == ["NFE", "seconds", "sliced W", "x floor", "q0", "q1", "q2"]
    assert more == ["steps", "q3", "q4", "q5", "q6"]


def test_a_failure_is_one_line_of_at_most_300_characters() -> None:
    row = Row("a", values={"w": [1.0]}, halves={"w": 0.1}, seconds=[2.0])
    row.failed(InputError("of the user\n" + "x" * 400))
    assert row.error == "of the user " + "x" * 288
    assert (row.values, row.halves, row.seconds) == ({}, {}, [])
    row.failed(RuntimeError("no"))
    assert row.error == "RuntimeError: no"


def test_what_is_kept_for_pictures_does_not_tell_results_apart() -> None:
    rows = [Row("a", nfe=1.0, shown=torch.full((2,), k)) for k in (0.0, 1.0)]
    assert rows[0] == rows[1] != Row("a", nfe=2.0)
    first, second = (Results("p", 9, 1, [row], endpoints={"vp": row.shown}) for row in rows if row.shown is not None)
    second.transform = Transform("points", (2,))
    assert first == second
    assert "shown" not in repr(first)
    assert "endpoints" not in repr(first)


def test_best_and_label_and_family() -> None:
    q = {"w": Quantity("w", direction="lower", floor="train", ratio=True), "s": Quantity("s", direction="higher")}
    rows = [Row("a 0.01", "vp", tolerance=0.01, values={"w": [3.0]})]
    rows.append(Row("b", "vp", 9, values={"w": [2.0], "s": [1.0]}))
    found = Results("p", 9, 1, rows, q, {"w": [0.5]})
    assert found.best() == 4.0
    assert [row.family for row in rows] == ["a", "b"]
    assert [found.full_label(row) for row in rows] == ["a 0.01", "b with budget 9"]  # one setting needs no name
    rows[0].setting = "ve"
    assert [found.full_label(row) for row in rows] == ["a 0.01, ve", "b, vp with budget 9"]
    assert found.family_label(rows[0]) == "a, ve"
    assert [*found.blocks(rows)] == [9, None]
    found.quantities.pop("w")
    assert [found.best(), Results("p", 9, 1, rows[1:], {"s": q["s"]}).best()] == [1.0, 1.0]
    assert Results("p", 9, 1).best() is None


def test_a_legend_says_unit_note_and_direction() -> None:
    q = Quantity("k", "short", "what it is", "a note", "m", "higher")
    assert (q.heading, q.title, q.meaning, q.sign) == (
        "short", "what it is [m]", "what it is [m]; a note; higher is better", -1,
    )  # fmt: skip
    plain = Quantity("k", direction="lower")
    assert (plain.heading, plain.title, plain.meaning, plain.sign) == ("k", "k", "k", 1)
    assert Measurement(3.0, 2.0).ratio == 1.5
    assert Measurement(3.0, 0.0).ratio == math.inf
    assert math.isnan(Measurement(3.0).ratio)


def test_the_ratio_has_the_interval_of_value_and_floor() -> None:
    """To first order, as the spread of many ratios of independent means; a single value has the spread of floors."""
    rng, q = np.random.default_rng(0), Quantity("w", floor="train", ratio=True)
    values, floors = 2 + 0.1 * rng.standard_normal(4), 1 + 0.1 * rng.standard_normal(5)
    found = Results("", 1, 1, [Row("a", values={"w": values.tolist()})], {"w": q}, {"w": floors.tolist()})
    ratio = found.ratio(found.rows[0], q)
    halves = [float(stats.t.ppf(0.975, len(x) - 1) * stats.sem(x) / x.mean()) for x in (values, floors)]
    assert ratio.mean == pytest.approx(values.mean() / floors.mean())
    assert ratio.half == pytest.approx(ratio.mean * math.hypot(*halves))
    found.rows[0].values["w"] = [0.9]
    single = found.ratio(found.rows[0], q)
    spread = stats.t.ppf(0.975, 4) * floors.std(ddof=1) / floors.mean()
    assert single.half == pytest.approx(single.mean * spread * math.sqrt(1 + 1 / 5))
    assert single.high > 1
    assert math.isnan(Results("", 1, 1, [], {}, {"w": [1.0]}).ratio(found.rows[0], q).half)
    found.rows[0].values["w"] = values.tolist()
    one = Results("", 1, 1, [], {}, {"w": [2.0]}).ratio(found.rows[0], q)
    assert one.half == pytest.approx(found.rows[0].interval("w").half / 2)


def test_a_single_seed_keeps_the_interval_that_was_measured(data: Dataset) -> None:
    found, row = Results("points", 40, 1), Row("a")
    found.add(row, {"k": Measurement(1.0, 0.5, 0.25)}, {})
    assert row.interval("k") == (1.0, 0.25)
    assert found.floors == {"k": [0.5]}
    found.add(row, {"k": Measurement(2.0, 0.5, 0.25)}, {})
    assert row.interval("k").half > 1
