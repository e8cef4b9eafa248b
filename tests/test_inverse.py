"""Methods of posterior sampling as rows of a comparison, beside draws of the exact posterior."""

import pytest
import torch
from support import built

from scoresde import InputError, compare
from scoresde.cli.main import main
from scoresde.comparison import Inverse, Mixture, Ring, posteriors
from scoresde.comparison.entries import Defaults, candidates
from scoresde.metrics import SlicedWasserstein, sliced_wasserstein
from scoresde.observation import Projection, Saturate
from scoresde.posterior import Method, PiGDM, Twisted


@pytest.fixture(scope="module")
def found():
    problem = Inverse(Mixture(4, 3), Projection((4,), rows=2, sigma_y=0.1))
    methods = ["dps", "mmps", "twisted", "exact", {"posterior": "pigdm", "sigma_data": 0.3}]
    return problem, compare(problem, posteriors=methods, budgets=[30], n=200, seeds=3, metrics=[SlicedWasserstein(50)])


def test_each_method_is_a_row_with_what_it_cost(found):
    _, results = found
    rows = {row.name: row for row in results.rows}
    assert list(rows) == ["dps", "mmps", "twisted", "exact", "pigdm sigma_data=0.3"]
    assert all(row.error is None and row.nfe <= 30 for row in rows.values())
    products = {name: row.values["products"][0] for name, row in rows.items()}
    assert products["exact"] == 0 < products["dps"] < products["mmps"]  # one a step, and one for each of two values


def test_the_exact_denoiser_reaches_the_floor_and_methods_follow(found):
    problem, results = found
    far = {row.name: sum(row.values["sliced_wasserstein"]) for row in results.rows}
    drawn = [problem.real(200, [seed])[0] for seed in range(3)]
    floor = sum(sliced_wasserstein(data.train, data.heldout, 50) for data in drawn)
    assert far["exact"] < 1.5 * floor
    assert far["twisted"] < 2 * floor
    assert far["exact"] < far["mmps"]
    assert max(far["exact"], far["twisted"]) < 0.6 * far["dps"]


def test_each_seed_has_a_truth_that_its_exact_posterior_covers(found):
    problem, _ = found
    truths, y = zip(*(problem.seen(seed) for seed in range(200)), strict=True)
    assert len({tuple(one.tolist()) for one in y}) == 200
    ranks = torch.stack([(problem.posterior(s).sample(99, seed=s) < truth).sum(0) for s, truth in enumerate(truths)])
    inside = ((ranks >= 5) & (ranks < 95)).double().mean()
    assert abs(float(inside) - 0.9) < 4 * (0.09 / 200) ** 0.5
    left = torch.stack([problem.observation(t[None])[0] - one for t, one in zip(truths, y, strict=True)])
    assert abs(float(left.std()) - 0.1) < 4 * 0.1 / (2 * left.numel()) ** 0.5


def test_modes_are_found_by_what_is_exact():
    results = compare(Inverse(Ring(), Projection((2,), matrix=[[1.0, 0.0]], sigma_y=0.3)), posteriors="exact",
                      budgets=[20], n=100, seeds=2, metrics=[SlicedWasserstein(20)])  # fmt: skip
    assert results.rows[0].values["modes_found"] == [1.0, 1.0]


def test_populations_of_a_comparison_are_those_of_its_batches():
    (own,) = candidates("auto", Defaults())
    twisted, given, plain = posteriors(["twisted", {"posterior": "twisted", "particles": 8}, PiGDM()], [own], 100)
    assert (twisted.method, given.method) == (Twisted(100, 100), Twisted(8))
    assert plain.method == PiGDM()
    assert plain.name == "pigdm"
    two = posteriors("mmps", candidates(["heun", "ddim"], Defaults()), 100)
    assert [candidate.name for candidate in two] == ["mmps heun", "mmps ddim"]


@pytest.mark.parametrize("name", ["inverse_mixture", "inverse_mixture_64d", "inverse_digits"])
def test_every_problem_has_posteriors(name):
    problem = built("problem", name)
    (data,) = problem.real(20, [0])
    assert data.train.shape == (20, *problem.event_shape)


def test_the_command_makes_methods_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scoresde.comparison.output.quality", lambda *arguments: [])
    monkeypatch.setattr("scoresde.comparison.output.pictures", lambda *arguments: [])
    small = ["logger=none", "n=20", "seeds=2", "budgets=[6]", "metrics.sliced_wasserstein.projections=20"]
    assert main(["compare", "problem=inverse_modes", "posteriors=[mmps,exact]", *small]) == 0
    printed = capsys.readouterr().out
    assert "mmps" in printed
    assert "exact" in printed
    assert main(["compare", "problem=mixture_2d", "posteriors=[mmps]", *small]) == 2
    assert "posteriors: nothing is observed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: posteriors("mmp", candidates("auto", Defaults()), 100), "mmp"),
        (lambda: posteriors([{"particles": 3}], candidates("auto", Defaults()), 100), "posteriors: .*posterior: NAME"),
        (lambda: Inverse(Mixture(4, 3), Projection((3,))), r"observation.event_shape: \(3,\) .* \(4,\)"),
        (lambda: Inverse(Mixture(4, 3), Saturate((4,))), "not linear"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError, match=text):
        make()


def test_a_method_of_your_own_is_a_row_where_it_is_allowed():
    entry = {"posterior": "custom", "_target_": f"{Pulled.__module__}.Pulled"}
    (row,) = posteriors([entry], candidates("heun", Defaults()), 1, allow=[Pulled.__module__])
    assert isinstance(row.method, Pulled)
    with pytest.raises(InputError, match=r"posteriors\._target_: .* is not allowed"):
        posteriors([entry], candidates("heun", Defaults()), 1)


class Pulled(Method):
    def denoised(self, asked, x, t, cond):
        return asked.pulled(asked.plain(x, t, cond), 1.0)
