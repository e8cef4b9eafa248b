"""The grid that a pilot looks up: it helps samples that the pilot has not seen, and belongs to the model."""

import json
from functools import lru_cache

import pytest
import torch

from scoresde import VESDE, Auto, ExactModel, GaussianMixture, InputError, Sampler, Terminal, count_evaluations
from scoresde.sampling import DDIM, PilotGrid
from scoresde.sampling.pilot import FILE


def circle(spread, scale=1.0):
    """Eight narrow Gaussians on a circle."""
    angle = torch.arange(8, dtype=torch.float64) / 8 * 2 * torch.pi
    means = torch.stack((angle.cos(), angle.sin()), 1) * 2**0.5 * scale
    law = GaussianMixture(torch.ones(8), means, ((spread * scale) ** 2 * torch.eye(2)).expand(8, 2, 2))
    model = ExactModel(law, VESDE(sigma_min=0.01 * scale, sigma_max=50 * scale))
    model.sigma_data = scale
    return model


def looked_up(model, steps=8, **arguments):
    """The grid, and the evaluations that it took."""
    with count_evaluations() as spent:
        grid = Sampler(Auto(), PilotGrid(**arguments), steps).suited(model).grid
    return grid, spent.samples


@lru_cache
def bare(spread, scale=1.0):
    """The grid found without a run."""
    return looked_up(circle(spread, scale))[0]


@pytest.mark.parametrize("spread", [0.01, 0.1])
def test_the_grid_helps_samples_that_the_pilot_has_not_seen(spread):
    model = circle(spread)
    exact = Sampler(Auto(), steps=300).sample(model, n=400, seed=5).x

    def error(grid):
        return float((Sampler(Auto(), grid, 8).sample(model, n=400, seed=5).x - exact).norm(dim=1).mean())

    assert error(bare(spread)) < 0.8 * error(Terminal())


def test_finer_data_want_lower_levels_and_a_larger_scale_the_same():
    assert bare(0.01).low < bare(0.1).low / 3
    assert bare(0.01, scale=7.0) == bare(0.01)


def test_samples_are_those_of_the_grid_that_was_found(tmp_path):
    model, sampler = circle(0.01), Sampler(Auto(run=tmp_path), steps=8)
    drawn = sampler.sample(model, n=30, seed=3)
    plain = Sampler(Auto(), bare(0.01), 8).sample(model, rows=range(10, 30), seed=3, batch_size=7)
    assert drawn.nfe == 8
    torch.testing.assert_close(drawn.x[10:], plain.x, rtol=0, atol=1e-5)


def test_a_run_keeps_what_was_found_for_a_model_a_solver_and_a_number_of_steps(tmp_path):
    fine, coarse = circle(0.01), circle(0.1)
    first, cost = looked_up(fine, run=tmp_path)
    kept = json.loads((tmp_path / FILE).read_text())["lookups"]
    assert [lookup["evaluations"] for lookup in kept] == [cost - 12]  # those by which the model is known again
    assert looked_up(fine, run=tmp_path) == (first, 12)
    for other in ({"model": coarse}, {"model": fine, "steps": 12}):
        assert looked_up(**other, run=tmp_path)[1] > 3000
    assert Sampler(DDIM(), PilotGrid(tmp_path), 8).suited(fine).grid != first
    assert looked_up(fine, run=tmp_path) == (first, 12)


def test_a_folder_that_cannot_be_written_is_a_note(tmp_path, capsys):
    (tmp_path / FILE.parent).write_text("in the way")
    looked_up(circle(0.1), run=tmp_path)
    assert str(tmp_path / FILE) in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", '{"lookups": [{"low": -1}]}', '{"lookups": 3}', "[]", '{"lookups": [{"low": '])
def test_a_damaged_file_is_one_line(tmp_path, text):
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match=r"^run: .*pilot\.json"):
        looked_up(circle(0.1), run=tmp_path)


@pytest.mark.parametrize("solver", [Auto(eta=1.0), DDIM(eta=1.0)])
def test_it_is_for_the_ode_alone(solver):
    with pytest.raises(InputError, match="probability-flow ODE"):
        Sampler(solver, PilotGrid(), 8).suited(circle(0.1))
