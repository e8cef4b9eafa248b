"""The interface of losses: one without noise levels and models, with derivatives, a state, and noise of its own."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from training_job import assert_same, fit, last, moons, resume, rows

from scoresde import InputError, ScoreModel
from scoresde.data import Dataset, Transform
from scoresde.loss import Batch, Loss, LossTerms
from scoresde.training import Progress, Trainer
from scoresde.training.batches import Batches
from scoresde.training.heldout import heldout_loss

S = 0.6  # standard deviation of the data


class SlicedScoreMatching(Loss[nn.Module]):
    """E [ v^T (ds/dx) v + |s|^2 / 2 ] for the score s of the data (Song et al. 2019, arXiv 1905.07088)."""

    differentiates = True

    def __call__(self, model: nn.Module, batch: Batch) -> LossTerms:
        x = batch.x0.detach().requires_grad_()
        v = batch.noise.normal("slices", batch.step, x.shape).sign()
        s = model(x)
        (change,) = torch.autograd.grad((s * v).sum(), x, create_graph=model.training)
        return LossTerms((change * v).sum(1) + (s**2).sum(1) / 2)


def gaussian_data() -> Dataset:
    draws = S * torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    return Dataset(draws[:3000], draws[3000:], Transform("points", (2,)))


def arguments(loss: Loss[Any] | None = None) -> dict[str, Any]:
    """A network of the score alone: no SDE, no preconditioning, no noise level."""
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(0.0), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    return {"model": net, "optimizer": optimizer, "dataset": gaussian_data(), "loss": loss or SlicedScoreMatching()}


def test_sliced_score_matching_trains_and_is_evaluated(tmp_path: Path) -> None:
    settings = arguments()
    result = fit(tmp_path, **settings, steps=300, batch_size=128, log_every=100, ema=0.9, evaluate_every=0)
    x = settings["dataset"].heldout
    error = result.ema(x) + x / S**2
    assert error.square().mean() < 0.02 * (x / S**2).square().mean()
    # E tr(ds/dx) + |s|^2 / 2 at the true score, and on these items, with ds/dx = -I / S^2
    best = float(-2 / S**2 + (x / S**2).square().sum(1).mean() / 2)
    assert result.best is not None
    assert result.best.value == pytest.approx(best, rel=0.03)
    assert heldout_loss(settings["loss"], result.ema, x, 128) == result.best.value
    logged = [row for row in rows(tmp_path) if "loss" in row]
    assert not any(key.startswith("loss_at") for row in logged for key in row)
    assert logged[-1]["loss"] == pytest.approx(best, rel=0.2)


@pytest.mark.parametrize("micro_batch", [None, 8])
def test_a_loss_without_noise_levels_resumes_to_the_bit(micro_batch: int | None, tmp_path: Path) -> None:
    own = {"micro_batch": micro_batch, "schedule": "constant"}
    fit(tmp_path / "whole", steps=30, **arguments(), **own)
    fit(tmp_path / "parts", steps=13, **arguments(), **own)
    resume(tmp_path / "parts", steps=30, **arguments(), **own)
    assert_same(last(tmp_path / "whole", 30), last(tmp_path / "parts", 30))


def test_a_loss_that_differentiates_is_not_compiled(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^compile: True .* SlicedScoreMatching differentiates; give false"):
        fit(tmp_path, **arguments(), compile=True)


def test_a_broken_loss_without_noise_levels_stops_the_training(tmp_path: Path) -> None:
    class Broken(SlicedScoreMatching):
        def __call__(self, model: nn.Module, batch: Batch) -> LossTerms:
            loss, _ = super().__call__(model, batch)
            return LossTerms(loss / (0.0 if batch.step == 4 and model.training else 1.0))

    with pytest.raises(InputError, match="diverged at step 5: the loss is not finite; no checkpoint"):
        fit(tmp_path, **arguments(Broken()))


class Drift(Loss[nn.Module]):
    """The distance from a teacher that follows the model."""

    def __init__(self) -> None:
        with torch.random.fork_rng([]):
            torch.manual_seed(5)
            self.teacher = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        self.steps: list[int] = []

    def __call__(self, model: nn.Module, batch: Batch) -> LossTerms:
        with torch.no_grad():
            target = self.teacher(batch.x0)
        return LossTerms((model(batch.x0) - target).square().sum(1))

    def after_step(self, model: nn.Module, step: int) -> None:
        self.steps.append(step)
        with torch.no_grad():
            weight = next(self.teacher.parameters())
            weight.lerp_(next(model.parameters())[:2], 0.1)

    def state(self) -> dict[str, Tensor]:
        return self.teacher.state_dict()

    def load(self, state: Any) -> None:
        self.teacher.load_state_dict(state)


def test_a_loss_may_have_a_teacher_and_a_state(tmp_path: Path) -> None:
    fit(tmp_path / "whole", steps=30, schedule="constant", **arguments(Drift()))
    fit(tmp_path / "parts", steps=13, schedule="constant", **arguments(Drift()))
    loss = Drift()
    resume(tmp_path / "parts", steps=30, schedule="constant", **arguments(loss))
    assert loss.steps == list(range(13, 30))
    assert not loss.teacher.training
    assert not any(p.requires_grad for p in loss.teacher.parameters())
    assert_same(last(tmp_path / "whole", 30), last(tmp_path / "parts", 30))
    with pytest.raises(InputError, match="SlicedScoreMatching has no state to load"):
        resume(tmp_path / "parts", steps=40, **arguments())


# ---- calling the trainer from Python ----


def test_a_training_needs_a_model_and_data_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        from scoresde import VPSDE
        from scoresde.nets import ResidualMLP

        model = ScoreModel(ResidualMLP((2,), width=16, blocks=1), VPSDE(), sigma_data=1.0)
    result = Trainer(steps=10, batch_size=16).fit(model, moons())
    assert (result.step, result.path) == (10, None)
    assert result.best is not None
    assert isinstance(result.ema, ScoreModel)
    assert capfd.readouterr() == ("", "")


def test_callbacks_are_called_with_what_is_known(tmp_path: Path) -> None:
    seen: list[Progress[ScoreModel]] = []
    fit(tmp_path, callbacks=[(15, seen.append), (40, seen.append)], log_every=10, evaluate_every=20)
    assert [progress.step for progress in seen] == [15, 30, 40, 45, 60]
    assert "heldout_loss" not in seen[0].values
    assert {"loss", "lr", "gradient_norm", "heldout_loss"} <= seen[1].values.keys()
    logged = {row["step"]: row["loss"] for row in rows(tmp_path) if "loss" in row}
    assert [progress.values["loss"] for progress in seen] == [logged[progress.step] for progress in seen]
    assert seen[0].best is None
    assert seen[-1].best is not None
    assert (seen[-1].best.step, seen[-1].steps) == (60, 60)
    fit(tmp_path / "without")
    assert torch.equal(*(last(run).modules["model"]["net.out.bias"] for run in (tmp_path, tmp_path / "without")))


def test_a_fault_in_a_callback_does_not_cost_the_training(tmp_path: Path) -> None:
    def broken(progress: Progress[Any]) -> None:
        raise RuntimeError("no such window")

    with pytest.raises(RuntimeError, match="no such window"):
        fit(tmp_path, callbacks=[(7, broken)], checkpoint_every=0)
    assert last(tmp_path, 7).step == 7


def test_the_direction_of_a_metric_decides_what_is_best(tmp_path: Path) -> None:
    values = {12: 1.0, 24: 3.0, 36: 2.0, 48: float("inf"), 60: 3.0, 0: 9.0}
    given = {"evaluate": lambda model, step: {"recall": values[step]}, "monitor": "recall"}
    for direction, best in (("higher", 24), ("lower", 12)):
        result = fit(tmp_path / direction, **given, direction=direction)
        assert result.best is not None
        assert result.best.step == best


def test_items_of_levels_are_spread_over_their_cells_at_every_use_again() -> None:
    levels = torch.arange(40.0).reshape(40, 1, 1, 1).expand(-1, 1, 8, 8) % 17
    transform = Transform("image", (1, 8, 8), 8.0, 4.0, low=0.0, high=16.0, levels=17, dtype="uint8")
    items = transform.encode(levels)
    batches = Batches(items, 0, torch.device("cpu"), dequantise=transform)
    plain = Batches(items, 0, torch.device("cpu"))
    u = torch.cat([4 * (batches.at(k, 20) - plain.at(k, 20)) for k in range(0, 80, 20)]).flatten()  # two epochs
    assert stats.kstest(u.numpy(), stats.uniform(-0.5, 1).cdf).pvalue > 0.01
    assert len(u.unique()) > 0.99 * len(u)
    assert torch.equal(torch.cat([batches.at(20, 7), batches.at(27, 13)]), batches.at(20, 20))
    assert (transform.finish(batches.at(0, 40)) == transform.finish(plain.at(0, 40))).all()


def test_a_training_sees_them_and_so_does_its_evaluation() -> None:
    class Seen(SlicedScoreMatching):
        parts: ClassVar[list[Tensor]] = []

        def __call__(self, model: nn.Module, batch: Batch) -> LossTerms:
            self.parts.append(batch.x0)
            return super().__call__(model, batch)

    data = gaussian_data()
    transform = Transform("table", (2,), levels=9, low=-4.0, high=4.0)
    rounded = Dataset(data.items.round(), data.heldout.round(), transform)
    for spread in (True, False):
        Seen.parts.clear()
        about = arguments(Seen()) | {"dataset": rounded}
        Trainer(steps=2, batch_size=8, dequantise=spread, auto_check=0).fit(**about)
        assert len(Seen.parts) == 34  # two steps and an evaluation
        assert [bool((x.detach() != x.detach().round()).all()) for x in Seen.parts] == [spread] * 34
    with pytest.raises(InputError, match=r"trainer\.dequantise: true is for data of levels, such as"):
        Trainer(steps=2, dequantise=True).fit(**arguments())
