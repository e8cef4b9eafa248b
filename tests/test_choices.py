"""What `auto` says it took: shares that sum to one, of candidates that are exact, the same in all batches."""

import pytest
import torch
from support import exact_model, sde_named

import scoresde
from scoresde import VPSDE, Auto, ExactModel, GaussianMixture, Sampler
from scoresde.comparison import Mixture
from scoresde.comparison.plan import Reference
from scoresde.figures.choices import _panel
from scoresde.figures.style import panels
from scoresde.model import Model
from scoresde.noise import Noise
from scoresde.prediction import Prediction
from scoresde.results import Row
from scoresde.runs.samples import batches
from scoresde.sampling import DDIM, Choices

DOUBLE = torch.float64


class Shaken(Model):
    """Gaussian data, whose v is zero at every level, with one evaluation that something disturbs."""

    def __init__(self, number=None):
        super().__init__(VPSDE())
        self.number, self.calls = number, 0
        self.data = ExactModel(GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]]), self.sde)

    device = torch.device("cpu")

    def forward(self, x, t, cond=None):
        x0 = self.data(x, t).x0
        if self.calls == self.number:
            x0 = x0 + 0.1 * Noise(5).normal("shock", 0, x.shape, dtype=x.dtype)
        self.calls += 1
        return Prediction.of(x, self.sde, t, x0=x0)


class Constant(Shaken):
    """Data that are one point: their x0 is the same at every level."""

    def forward(self, x, t, cond=None):
        return Prediction.of(x, self.sde, t, x0=torch.full_like(x, 2.0))


def shares(choices, quantity):
    """The share of the candidates of a quantity in each step (N,)."""
    return choices.shares[:, [name.startswith(quantity) for name in choices.names]].sum(1)


@pytest.mark.parametrize(("model", "quantity"), [(Shaken(), "v"), (Constant(), "x0")])
def test_what_is_exact_takes_all(model, quantity):
    choices = Sampler(steps=12).sample(model, (2,), 20, dtype=DOUBLE).choices
    assert shares(choices, quantity)[2:].min() > 1 - 1e-6


def test_one_disturbed_evaluation_does_not_undo_what_was_learned():
    """All candidates miss it alike, and those that were exact before take the next step too: they are remembered."""
    choices = Sampler(steps=20).sample(Shaken(10), (2,), 20, dtype=DOUBLE).choices
    assert shares(choices, "v")[10] > 0.95


def test_shares_sum_to_one_at_the_levels_of_the_grid():
    model = exact_model(sde_named("vp"))
    sampler = Sampler(steps=9)
    choices = sampler.sample(model, (2,), 30).choices
    times = sampler.times(model)
    assert choices.levels == pytest.approx((model.sde.sigma(times) / model.sde.alpha(times)).tolist())
    assert choices.shares.shape == (9, len(choices.names))
    torch.testing.assert_close(choices.shares.sum(1), torch.ones(9, dtype=DOUBLE))
    assert sum(choices.mean.values()) == pytest.approx(1)
    assert max(choices.mean, key=choices.mean.get) in str(choices).split(",")[0]


def test_batches_count_by_their_samples():
    model, sampler = exact_model(sde_named("vp")), Sampler(steps=8)
    together, *others = (sampler.sample(model, (2,), 7, batch_size=k, dtype=DOUBLE).choices.shares for k in (7, 3, 1))
    for other in others:
        torch.testing.assert_close(other, together, rtol=0, atol=1e-9)


def test_others_choose_nothing_and_noise_has_candidates_of_its_own():
    model = exact_model(sde_named("vp"))
    assert Sampler(DDIM(), steps=3).sample(model, (2,), 3).choices is None
    still, noisy = (Sampler(Auto(eta), steps=3).sample(model, (2,), 3).choices for eta in (0.0, 1.0))
    assert set(still.names) != set(noisy.names)
    torch.testing.assert_close(noisy.shares.sum(1), torch.ones(3, dtype=torch.float64))


def test_kept_batches_keep_their_choices(tmp_path):
    model, sampler = exact_model(sde_named("vp")), Sampler(steps=4)

    def parts(sampler):
        drawn = list(batches(sampler, model, (2,), 5, 0, 2, tmp_path / "parts"))
        return Choices.joined([(len(part.x), part.choices) for part in drawn])

    first, again = parts(sampler), parts(None)
    assert (first.content(), str(first)) == (again.content(), str(again))
    assert first.content() == sampler.sample(model, (2,), 5, batch_size=2).choices.content()


def test_the_report_shows_them(tmp_path, monkeypatch):
    for other in ("quality", "pictures"):
        monkeypatch.setattr(f"scoresde.comparison.output.{other}", lambda *arguments: [])
    scoresde.compare(
        Mixture(), solvers=["auto", "ddim"], budgets=[3], n=20, seeds=2, reference=Reference(n=0), folder=tmp_path
    )
    assert (tmp_path / "choices.png").is_file()
    assert ">Choices of auto<" in (tmp_path / "report.html").read_text()


def test_bars_stack_to_one_and_begin_at_the_levels():
    levels, share = [10.0, 1.0, 0.5], torch.tensor([[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]], dtype=DOUBLE)
    _, axes = panels(1, 1, 2, 2)
    bars = _panel(axes[0, 0], Row("auto", choices=Choices(["a", "b"], levels, share)))
    a, b = bars.values()
    for i, level in enumerate(levels):
        lower, upper = a.patches[i], b.patches[i]
        assert lower.get_x() == upper.get_x() == level
        assert lower.get_x() + lower.get_width() == pytest.approx([1.0, 0.5, 0.25][i])
        assert (lower.get_height(), upper.get_y()) == (share[i, 0], share[i, 0])
        assert upper.get_y() + upper.get_height() == pytest.approx(1)
