"""Each metric says how many items it needs, and is refused before a training on fewer."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scoresde import metrics, train
from scoresde.data import Dataset, Transform
from scoresde.errors import InputError
from scoresde.metrics import (
    MMD,
    ClassShares,
    Copies,
    Diversity,
    EnergyDistance,
    FeatureQuality,
    FrechetDistance,
    Modes,
    NearestNeighbour,
    Profiles,
    SlicedWasserstein,
    TwoSampleTest,
)
from scoresde.results import Metric, Needs, Scorer

NEEDS = [
    (SlicedWasserstein(9), Needs(1, 1, 1)),
    (NearestNeighbour(), Needs(1, 1, 1)),
    (ClassShares("pixels"), Needs(1, 1, 1)),
    (ClassShares(nn.Flatten(), neighbours=3), Needs(1, 1, 1)),
    (Modes(equal=True, accuracy=0.0), Needs(1, 1, 1)),
    (Copies(cells=2), Needs(1, 1, 2)),
    (Profiles(), Needs(2, 2, 2)),
    (TwoSampleTest(nn.Flatten(), folds=3, permutations=9), Needs(3, 3, 3)),
    (EnergyDistance(), Needs(2, 2, 2)),
    (EnergyDistance(unbiased=False), Needs(1, 1, 1)),
    (MMD(), Needs(2, 2, 2)),
    (MMD(unbiased=False), Needs(1, 2, 1)),
    (MMD(bandwidth=1.0, unbiased=False), Needs(1, 1, 1)),
    (FrechetDistance(nn.Flatten()), Needs(2, 2, 2)),
    (Diversity(), Needs(4, 6, 4)),
    (FeatureQuality(nn.Flatten()), Needs(4, 6, 4)),
    (FeatureQuality(nn.Flatten(), neighbours=1, wider=2), Needs(2, 3, 2)),
]
IDS = [repr(metric)[:40] for metric, _ in NEEDS]


def data(heldout: int, train: int) -> Dataset:
    x = torch.randn(heldout + train, 3, generator=torch.Generator().manual_seed(0))
    labels = {"class": torch.arange(train) % 2}
    return Dataset(x[:train], x[train:], Transform("table", (3,)), labels, {"class": torch.arange(heldout) % 2})


def measured(metric: Metric, samples: int, heldout: int, train: int) -> list[float]:
    """All values and floors without any check; NaN where there are none."""
    try:
        found = Scorer([metric], data(heldout, train))(torch.randn(samples, 3) + 1)
    except (ValueError, RuntimeError, IndexError):
        return [math.nan]
    return [x for m in found.values() for x in (m.value, m.floor) if x is not None]


def test_the_needs_of_every_metric_are_known():
    known = {type(metric).__name__ for metric, _ in NEEDS}
    classes = {name: one for name in metrics.__all__ if isinstance(one := getattr(metrics, name), type)}
    assert {name for name, one in classes.items() if issubclass(one, Metric)} <= known


@pytest.mark.parametrize(("metric", "needs"), NEEDS, ids=IDS)
def test_a_metric_is_defined_with_what_it_needs_and_not_with_less(metric, needs):
    assert metric.needs() == needs
    assert Scorer({"mine": metric}, data(needs.heldout, needs.train)).prepare(needs.samples)
    assert np.isfinite(measured(metric, *needs)).all()
    for kind, word in (("samples", "samples"), ("heldout", "held-out items"), ("train", "training items")):
        fewer = needs._replace(**{kind: getattr(needs, kind) - 1})
        if min(fewer):
            assert not np.isfinite(measured(metric, *fewer)).all(), kind
            with pytest.raises(InputError, match=rf"metrics\.mine: needs {getattr(needs, kind)} {word}, and there are"):
                Scorer({"mine": metric}, data(fewer.heldout, fewer.train)).prepare(fewer.samples)


def test_the_share_that_is_named_is_enough():
    with pytest.raises(InputError, match=r"metrics\.0?.*data\.held_out, such as 0\.25"):
        Scorer({"energy": EnergyDistance()}, data(1, 7)).prepare(9)


def test_a_training_on_too_few_leaves_nothing_behind(tmp_path: Path):
    x = np.random.default_rng(0).standard_normal((8, 3))
    with pytest.raises(InputError, match=r"metrics\.energy: needs 2 held-out items, and there are 1"):
        train(x, metrics="distances", steps=2, run=tmp_path / "r", device="cpu")
    assert not (tmp_path / "r").exists()


def test_a_function_may_be_a_metric_and_needs_nothing():
    assert Scorer([lambda samples, dataset: {"n": len(samples)}], replace(data(1, 1))).prepare(1)
