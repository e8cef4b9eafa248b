"""Modes found and their divergence: known distributions, intervals, classified channels, and what is refused."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor

from scoresde import VPSDE, ExactModel, GaussianMixture
from scoresde.cli.main import main
from scoresde.comparison.problems import Finite, Given
from scoresde.data import Dataset, Digits, GaussianGrid, Moons, StackedDigits, SwissRoll
from scoresde.errors import InputError
from scoresde.metrics import Classifier, Modes
from scoresde.metrics.modes import likeliest
from scoresde.results import Measurement, Scorer

GRID = GaussianGrid(n=12_500).load()


def measured(samples: Tensor, dataset: Dataset = GRID, **settings) -> list[Measurement]:
    return list(Scorer([Modes(**settings)], dataset)(samples).values())


# The Gaussians


def test_the_card_is_that_of_what_assigns_and_of_the_reference() -> None:
    cards = [Modes(**settings).card(GRID) for settings in ({}, {"deviations": 2.0}, {"equal": True})]
    assert cards[0]["extractor"] == "nearest mean"
    for other, key in zip(cards[1:], ("sha256", "shares"), strict=True):
        assert [k for k in other if other[k] != cards[0][k]] == [key]


def test_points_of_the_distribution_are_found_and_lie_within_three_deviations_as_often_as_chi_says() -> None:
    found, divergence, inside = measured(GRID.train, equal=True)
    assert (found.value, found.half) == (25, 0)
    exact = stats.chi(2).cdf(3)
    assert abs(inside.value - exact) < 3.5 * math.sqrt(exact * (1 - exact) / len(GRID.train))
    assert inside.half == pytest.approx(1.96 * math.sqrt(exact * (1 - exact) / len(GRID.train)), rel=0.25)
    # 2n KL has, for n draws of the distribution itself, a chi-squared distribution
    assert 0.001 < stats.chi2(24).cdf(2 * len(GRID.train) * divergence.value) < 0.999


def test_the_class_is_the_row_and_column_of_the_lattice() -> None:
    points = GRID.transform.decode(GRID.train)
    row_and_column = ((points + 4) / 2).round().long()
    assert torch.equal(5 * row_and_column[:, 1] + row_and_column[:, 0], GRID.train_labels)
    assert torch.equal(Modes().assign(GRID.heldout, GRID).modes, GRID.heldout_labels)
    assert (points - (2.0 * row_and_column - 4)).std() == pytest.approx(0.05, rel=0.02)


def test_modes_that_are_missing_cost_their_share() -> None:
    some = GRID.train[GRID.train_labels < 10]
    shares = torch.bincount(GRID.train_labels[GRID.train_labels < 10], minlength=25) / len(some)
    real = torch.bincount(GRID.heldout_labels) / len(GRID.heldout)
    for equal, reference in ((True, torch.ones(25) / 25), (False, real)):
        found, divergence, _ = measured(some, equal=equal)
        assert found.value == 10
        assert divergence.value == pytest.approx(stats.entropy(shares, reference), rel=1e-5)
        assert divergence.value > math.log(2.4) > 10 * divergence.floor


def test_samples_between_modes_find_none() -> None:
    away = GRID.transform.encode(torch.tensor([[0.0, 0.13], [0.0, 0.17], [2.0, 2.0], [1.0, 1.0]]))
    assert Modes().assign(away, GRID).inside.tolist() == [True, False, True, False]
    assert [m.value for m in measured(away)][::2] == [2, 0.5]
    assert measured(away, deviations=4.0)[0].value == 2
    assert measured(away, deviations=4.0)[2].value == 0.75


def test_intervals_hold_the_expectation() -> None:
    """Of draws that miss some modes and know others too well."""
    weights = torch.linspace(0, 1, 25).double() ** 3
    generator, metric = torch.Generator().manual_seed(0), Modes(equal=True)
    by_mode = [GRID.train[GRID.train_labels == k] for k in range(25)]
    values = []
    for _ in range(100):
        modes = torch.multinomial(weights, 200, replacement=True, generator=generator)
        values.append(metric(torch.stack([by_mode[k][0] for k in modes]), GRID))
    for key in ("modes_found", "mode_divergence"):
        mean = np.mean([v[key].value for v in values])
        assert np.mean([abs(v[key].value - mean) <= v[key].half for v in values]) >= 0.87


# The digits


def test_stacks_are_images_of_the_digits_that_their_class_writes() -> None:
    pixels, classes = load_digits(return_X_y=True)
    known = {tuple(row): int(c) for row, c in zip(pixels.astype(int), classes, strict=True)}
    data, digits = StackedDigits(n=2000, split_seed=3).load(), Digits(split_seed=3, held_out=0.2).load()
    for items, labels, part in (
        (data.train, data.labels, digits.train),
        (data.heldout, data.heldout_labels, digits.heldout),
    ):
        written = data.transform.finish(items).reshape(len(items), 3, 64)
        read = [[known[tuple(channel)] for channel in stack] for stack in written.astype(int)]
        assert [100 * a + 10 * b + c for a, b, c in read] == labels.tolist()
        own = {tuple(x) for x in part.flatten(1).tolist()}
        assert all(tuple(x) in own for x in items[:50].reshape(-1, 64).tolist())
    assert len(data.heldout) == 400


def test_every_number_is_equally_likely_and_seeds_differ() -> None:
    data = StackedDigits().load()
    counts = torch.bincount(torch.cat([data.labels, data.heldout_labels]), minlength=1000)
    assert counts.min() > 0
    assert 0.001 < stats.chisquare(counts).pvalue < 0.999
    a, b, again = (StackedDigits(n=50, seed=seed).load().train for seed in (0, 1, 0))
    assert torch.equal(a, again)
    assert not torch.equal(a, b)


@pytest.fixture(scope="module")
def stacks() -> Dataset:
    return StackedDigits(n=1200).load()


def test_channels_are_classified_one_by_one(stacks: Dataset, tmp_path: Path) -> None:
    assign = likeliest(stacks, Classifier(epochs=4, cache=str(tmp_path)), 10).assign
    modes = assign(stacks.heldout).modes
    assert (modes == stacks.heldout_labels).double().mean() > 0.5
    backwards = assign(stacks.heldout.flip(1)).modes
    assert torch.equal(backwards, modes // 100 + modes // 10 % 10 * 10 + modes % 10 * 100)
    # a channel of which nobody can be sure is enough for a stack to lie in no mode
    blank = stacks.train.clone()
    blank[:, 1] = 0
    assert assign(stacks.train).inside.double().mean() > 2 * assign(blank).inside.double().mean() + 0.2


def test_images_as_a_whole_are_assigned_by_the_same_classifier(tmp_path: Path) -> None:
    digits = Digits().load()
    settings = {"classifier": Classifier(cache=str(tmp_path)), "confidence": 0.0, "accuracy": 0.5}
    found, divergence, inside = measured(digits.train[digits.train_labels != 3], digits, **settings)
    assert found.value >= 9
    assert inside.value == 1
    assert divergence.value > 0.5 * math.log(10 / 9)


# What is not recognised


def test_data_whose_modes_are_not_known_are_refused(tmp_path: Path) -> None:
    one = replace(GRID, conditions={"class": 0 * GRID.labels})
    cases = [
        (Modes(), SwissRoll(n=50).load(), "no classes"),
        (Modes(), Moons(n=400, noise=1.0).load(), "accuracy"),
        (Modes(), one, "accuracy"),
        (Modes(base=5), GRID, "base"),
        (Modes(base=9), StackedDigits(n=200).load(), "base"),
        (Modes(), GaussianGrid(n=1000, held_out=0.02).load(), "equal"),
    ]
    for metric, dataset, words in cases:
        with pytest.raises(InputError, match=rf"^metrics\.modes.*{words}") as caught:
            Scorer([metric], dataset).prepare(10)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^data\.held_out: 0\.001"):
        StackedDigits(held_out=0.001).load()


def test_a_classifier_that_does_not_know_its_data_ends_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["debug=tiny", "logger=none", "data.n=200", f"metrics.modes.classifier.cache={tmp_path}"]
    assert main(["train", "experiment=stacked_digits", *small]) == 2
    error = capsys.readouterr().err
    assert "metrics.modes.accuracy" in error
    assert "of held-out items are recognised" in error
    assert not Path("runs").exists()


def test_a_comparison_knows_the_modes_of_held_out_items_and_refuses_data_without(tmp_path, monkeypatch, capsys):
    of = {tuple(x): int(k) for x, k in zip(GRID.train.tolist(), GRID.labels, strict=True)}
    of |= {tuple(x): int(k) for x, k in zip(GRID.heldout.tolist(), GRID.heldout_labels, strict=True)}
    model = ExactModel(GaussianMixture([1.0], [[0.0, 0.0]], [torch.eye(2).tolist()]), VPSDE())
    for part in (*Finite(GaussianGrid(n=12_500)).real(50, [0, 1]), *Given(model, GRID).real(50, [0])):
        assert [of[tuple(x)] for x in part.train.tolist()] == part.labels.tolist()
        assert [of[tuple(x)] for x in part.heldout.tolist()] == part.heldout_labels.tolist()
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "problem=mixture_2d", "metrics=modes", "logger=none"]) == 2
    assert "no classes" in capsys.readouterr().err
    assert not Path("runs").exists()
