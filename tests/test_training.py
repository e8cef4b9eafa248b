"""Whole trainings: that they learn, what they log and keep, and how they end before their time."""

import io
import math
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training_job import STEPS, Net, assert_same, fit, last, model_and_optimizer, moons, resume, rows, trainer

from scoresde import VPSDE, InputError, ScoreModel
from scoresde.data import Dataset, Transform
from scoresde.loss import Batch, DenoisingScoreMatching, LossTerms
from scoresde.training import Interrupted, Trainer, TrainingDiverged
from scoresde.training import checkpoint as checkpoints
from scoresde.training import stop as stop_module
from scoresde.training.heldout import heldout_loss
from scoresde.training.window import Window

# ---- a whole training ----


class IdealNet(torch.nn.Module):
    """The best possible network for eps of data N(0, s^2 I): eps given x is sigma x / (alpha^2 s^2 + sigma^2)."""

    def __init__(self, s: float) -> None:
        super().__init__()
        self.s = s

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        ratio = torch.exp(4 * c)[:, None]
        return x * ratio / (self.s**2 + ratio**2) ** 0.5


def test_training_reaches_the_smallest_possible_loss(tmp_path: Path) -> None:
    # For data N(0, s^2 I) the best loss is the variance of eps given x, alpha^2 s^2 / (alpha^2 s^2 + sigma^2),
    # averaged over the times.
    s, sde = 0.5, VPSDE()
    draws = s * torch.randn(6000, 2, generator=torch.Generator().manual_seed(0))
    data = Dataset(draws[:5000], draws[5000:], Transform("points", (2,)))
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model = ScoreModel(Net(dropout=0.0), sde, "eps", sigma_data=s)
    t = torch.linspace(sde.t_train, sde.T, 100_001, dtype=torch.float64)
    snr = (sde.alpha(t) * s / sde.sigma(t)) ** 2
    best = float(torch.trapezoid(snr / (1 + snr), t)) / (sde.T - sde.t_train)
    loss = DenoisingScoreMatching()
    untrained = heldout_loss(loss, model.eval(), data.heldout, 128)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
    settings = Trainer(steps=1600, batch_size=128, ema=0.99, evaluate_every=0, checkpoint_every=0)
    result = settings.fit(model, data, loss=loss, optimizer=optimizer, run=tmp_path)
    assert result.best is not None
    reached = result.best.value
    assert untrained > 5 * best
    ideal = heldout_loss(loss, ScoreModel(IdealNet(s), sde, "eps", s), data.heldout, 8192)
    assert ideal == pytest.approx(best, rel=0.01)
    assert heldout_loss(loss, result.ema, data.heldout, 8192) == pytest.approx(ideal, rel=0.03)
    assert reached == heldout_loss(loss, result.ema, data.heldout, 128)


def test_heldout_loss_is_steady() -> None:
    # as close to the mean over many more draws of noise as its 32 stratified batches promise
    model, _ = model_and_optimizer()
    data, loss = moons().heldout, DenoisingScoreMatching()
    many = heldout_loss(loss, model.eval(), data, 2048)
    # three standard errors: a sixth of all draws carry the loss, each with a relative error of about one
    for batch_size, bound in ((32, 0.22), (128, 0.11)):
        few = heldout_loss(loss, model, data, batch_size)
        assert few == pytest.approx(many, rel=bound)
        assert few == heldout_loss(loss, model, data, batch_size)
    unstratified = heldout_loss(DenoisingScoreMatching(stratified=False), model, data, 2048)
    assert unstratified == pytest.approx(many, rel=0.005)


def test_same_seed_same_weights_and_the_callers_generators_are_left_alone(tmp_path: Path, capfd: Any) -> None:
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    fit(tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    torch.manual_seed(12)
    fit(tmp_path / "b")
    assert_same(last(tmp_path / "a"), last(tmp_path / "b"))
    fit(tmp_path / "c", seed=8)
    assert not torch.equal(
        last(tmp_path / "a").modules["model"]["net.out.bias"], last(tmp_path / "c").modules["model"]["net.out.bias"]
    )
    assert capfd.readouterr() == ("", "")  # no bar where there is no terminal, and nothing else


def test_a_batch_may_be_larger_than_the_data(tmp_path: Path) -> None:
    n = len(moons().train)
    assert fit(tmp_path, steps=3, batch_size=3 * n + 1).step == 3
    assert last(tmp_path, 3).state["samples_seen"] == 3 * (3 * n + 1)


def test_the_model_that_is_returned_is_the_average_and_the_model_that_was_given_is_raw(tmp_path: Path) -> None:
    model, optimizer = model_and_optimizer()
    model.eval()
    result = fit(tmp_path, model=model, optimizer=optimizer)
    stored = last(tmp_path).modules
    assert not model.training  # as it came
    assert not result.ema.training
    for name, module in (("model", model), ("ema", result.ema)):
        state = module.state_dict()
        assert all(torch.equal(state[key], value) for key, value in stored[name].items())
    assert not torch.equal(stored["model"]["net.out.bias"], stored["ema"]["net.out.bias"])


# ---- what is logged ----


def test_losses_per_noise_level_add_up_to_the_mean() -> None:
    sde = VPSDE()
    window = Window(DenoisingScoreMatching().range_of_lam(model_and_optimizer()[0]))
    generator = torch.Generator().manual_seed(0)
    t = torch.rand(5, 400, generator=generator, dtype=torch.float64) * (sde.T - sde.t_train) + sde.t_train
    loss = torch.rand(5, 400, generator=generator)
    for i in range(5):
        window.add(LossTerms(loss[i], sde.lam(t[i])), torch.tensor(float(i)))
    scalars, bad = window.summary()
    assert bad is None
    assert len(window) == 0
    assert scalars["loss"] == pytest.approx(loss.mean().item())
    assert scalars["gradient_norm"] == 2.0
    lam = sde.lam(t).flatten().numpy()
    edges = np.linspace(*sde.lam(torch.tensor([sde.T, sde.t_train])).tolist(), 9)
    counts, _ = np.histogram(lam, edges)
    sums, _ = np.histogram(lam, edges, weights=loss.flatten().double().numpy())
    centres = (edges[1:] + edges[:-1]) / 2
    expected = {f"loss_at/lam_{c:.1f}": s / n for c, s, n in zip(centres, sums, counts, strict=True) if n}
    assert {k: v for k, v in scalars.items() if k.startswith("loss_at")} == pytest.approx(expected)


def test_every_step_is_logged_once_whatever_the_rhythm(tmp_path: Path) -> None:
    seen: list[float] = []

    class Seen(DenoisingScoreMatching):
        def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
            terms = super().__call__(model, batch)
            if model.training:
                seen.append(float(terms.loss.detach().mean()))
            return terms

    fit(tmp_path, loss=Seen(), log_every=7, evaluate_every=9, checkpoint_every=10)
    steps = [row["step"] for row in rows(tmp_path) if "loss" in row]
    assert steps == sorted({*range(7, 61, 7), *range(9, 61, 9), *range(10, 61, 10)})
    begin = 0
    for row in rows(tmp_path):
        if "loss" in row:
            assert row["loss"] == pytest.approx(np.mean(seen[begin : row["step"]]))
            begin = row["step"]


def test_in_a_terminal_a_bar_moves_at_logs_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fit(tmp_path, log_every=20, evaluate_every=0, checkpoint_every=0)
    drawn = [line for line in terminal.getvalue().split("\r") if "training" in line]
    done = [line.split("|")[2].split("/60")[0].strip() for line in drawn]
    assert list(dict.fromkeys(done)) == ["0", "20", "40", "60"]
    assert all("step/s" in line or "s/step" in line for line in drawn)
    logged = [f"loss={row['loss']:.4g}" for row in rows(tmp_path) if "loss" in row]
    assert [line.rsplit(", ", 1)[1].split("]")[0] for line in drawn[1:4]] == logged


# ---- the best checkpoint ----


def test_the_best_and_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    figures = {12: 3.0, 24: 1.0, 36: 2.0, 48: math.nan, 60: 1.0, 0: 9.0}

    def evaluate(model: Any, step: int) -> dict[str, float]:
        return {"distance": figures[step]}

    result = fit(tmp_path, evaluate=evaluate, monitor="distance", checkpoint_every=5, keep_last=2)
    assert result.best is not None
    assert (result.best.step, result.best.value) == (24, 1.0)
    assert checkpoints.saved_steps(tmp_path) == [24, 55, 60]
    assert checkpoints.find(tmp_path, "best") == checkpoints.at_step(tmp_path, 24)
    assert [r["distance"] for r in rows(tmp_path) if "distance" in r] == [9.0, 3.0, 1.0, 2.0, "NaN", 1.0]
    # it survives going on, in which nothing is better
    resume(tmp_path, steps=72, evaluate=lambda model, step: {"distance": 1.5}, monitor="distance", keep_last=1)
    assert checkpoints.saved_steps(tmp_path) == [24, 72]
    assert last(tmp_path, 72).state["best"] == {"step": 24, "metric": "distance", "value": 1.0}


def test_a_wrong_monitor_is_found_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"monitor: 'distanse' .* give one of heldout_loss, distance, closeness$"):
        fit(tmp_path, monitor="distanse", evaluate=lambda model, step: {"distance": 1.0, "closeness": 2.0})
    with pytest.raises(InputError, match=r"monitor: 'fid' .* give one of heldout_loss$"):
        fit(tmp_path, monitor="fid")
    assert list(tmp_path.iterdir()) == []


def test_a_fault_in_an_evaluation_does_not_cost_the_training(tmp_path: Path) -> None:
    def evaluate(model: Any, step: int) -> dict[str, float]:
        raise RuntimeError("no such file")

    with pytest.raises(RuntimeError, match="no such file"):
        fit(tmp_path, evaluate=evaluate, checkpoint_every=0)
    assert checkpoints.saved_steps(tmp_path) == [12]


# ---- divergence ----


class _Breaks(DenoisingScoreMatching):
    """A loss that goes wrong in one step at levels with lam < 0: NaN itself, or only its gradient."""

    def __init__(self, step: int, kind: str) -> None:
        super().__init__()
        self.step, self.kind, self.calls = step, kind, 0

    def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
        loss, lam = super().__call__(model, batch)
        assert lam is not None
        self.calls += model.training
        if model.training and self.calls == self.step:
            if self.kind == "loss":
                return LossTerms(torch.where(lam < 0, torch.nan, loss), lam)
            loss = loss + torch.sqrt(0 * loss) - torch.sqrt(0 * loss)  # the derivative of the root at zero is infinite
        return LossTerms(loss, lam)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_broken_step_stops_the_training_and_is_never_saved(tmp_path: Path, kind: str) -> None:
    with pytest.raises(TrainingDiverged, match=r"step 23: .*lam=-?\d.*sigma/alpha=.*step-00000020; try") as error:
        fit(tmp_path, loss=_Breaks(23, kind), log_every=1000, evaluate_every=0)
    assert "\n" not in str(error.value)
    assert kind in str(error.value)
    assert (error.value.step, error.value.checkpoint) == (23, checkpoints.at_step(tmp_path, 20))
    assert checkpoints.saved_steps(tmp_path) == [10, 20]
    for step in (10, 20):
        saved = last(tmp_path, step)
        for tensors in (*saved.modules.values(), saved.optimizer):
            assert all(torch.isfinite(t).all() for t in tensors.values())


def test_the_noise_level_of_a_broken_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged) as error:
        fit(tmp_path, loss=_Breaks(2, "loss"))
    assert float(str(error.value).split("lam=")[1].split()[0]) < 0  # where it was broken
    assert "no checkpoint was saved yet" in str(error.value)


def test_weights_that_overflow_after_a_sound_gradient_are_not_saved(tmp_path: Path) -> None:
    model, _ = model_and_optimizer()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e39, fused=True)
    with pytest.raises(TrainingDiverged, match=r"step 1: .* is not finite; no checkpoint"):
        fit(tmp_path, model=model, optimizer=optimizer, warmup=0, clip=1e3, checkpoint_every=1, evaluate_every=0)
    assert checkpoints.saved_steps(tmp_path) == []


# ---- signals ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
def test_a_signal_saves_and_the_training_can_go_on(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Signalling(DenoisingScoreMatching):
        calls = 0

        def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
            self.calls += model.training
            if self.calls == 27:
                os.kill(os.getpid(), number)
            return super().__call__(model, batch)

    flush = checkpoints.flush

    def again(path: Path) -> None:  # the same Ctrl-C once more, and again, in the midst of the saving
        os.kill(os.getpid(), signal.SIGINT)
        flush(path)

    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    fit(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "flush", again)
        patch.setattr(stop_module, "_ONE_PRESS", 1000.0)
        with pytest.raises(Interrupted) as stop:
            fit(tmp_path / "cut", loss=Signalling(), checkpoint_every=0, evaluate_every=0)
    assert (stop.value.signal, stop.value.step) == (number, 27)
    assert stop.value.path == checkpoints.newest(tmp_path / "cut") == checkpoints.at_step(tmp_path / "cut", 27)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    resume(tmp_path / "cut")
    whole, cut = last(tmp_path / "whole"), last(tmp_path / "cut")
    cut.state["best"] = whole.state["best"]  # the first part evaluated at other steps
    assert_same(whole, cut)


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_module, "_ONE_PRESS", 0.0)
    steps: list[int] = []

    def pressed_twice(model: Any, step: int) -> dict[str, float]:
        steps.append(step)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        raise AssertionError("it has not ended")

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, evaluate=pressed_twice)
    assert steps == [12]
    assert checkpoints.saved_steps(tmp_path) == [10]


def test_a_program_that_ignores_a_closed_terminal_goes_on(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_module.stop_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_training_works(tmp_path: Path) -> None:
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(fit(tmp_path).step))
    thread.start()
    thread.join()
    assert results == [STEPS]


# ---- settings ----


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("steps", -5), ("batch_size", 0), ("ema", 1.0), ("ema", -0.1), ("clip", -1.0), ("clip", math.nan),
        ("clip", math.inf), ("warmup", -1), ("schedule", "linear"), ("log_every", 0), ("evaluate_every", -1),
        ("checkpoint_every", -1), ("keep_last", 0), ("monitor", ""), ("precision", "half"), ("micro_batch", 0),
        ("micro_batch", 5), ("micro_batch", 64), ("snapshot_every", -1), ("ema", ()), ("ema", (0.9, 0.9)),
        ("ema", (0.9, 1.0)),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name}: .* give") as error:
        trainer(**{name: value})
    assert "\n" not in str(error.value)
    assert repr(value) in str(error.value)


def test_an_optimizer_of_another_model_is_refused(tmp_path: Path) -> None:
    model, _ = model_and_optimizer()
    _, other = model_and_optimizer()
    with pytest.raises(InputError, match=r"^optimizer: 4 of its 4 parameters .* model.parameters"):
        fit(tmp_path, model=model, optimizer=other)
    assert checkpoints.saved_steps(tmp_path) == []


def test_a_folder_with_checkpoints_is_not_overwritten(tmp_path: Path) -> None:
    fit(tmp_path, steps=5)
    with pytest.raises(InputError, match="already holds checkpoints"):
        fit(tmp_path, steps=5)
    assert Counter(row["step"] for row in rows(tmp_path) if "loss" in row) == {4: 1, 5: 1}
