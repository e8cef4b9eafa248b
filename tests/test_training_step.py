"""One training step: its data, its random numbers, its learning rate, its update, and the average of the weights."""

import itertools
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode
from training_job import STEPS, Net, fit, model_and_optimizer, moons, rows

from scoresde import InputError, ScoreModel
from scoresde.loss import DenoisingScoreMatching
from scoresde.training import Ema, Muon, Trainer
from scoresde.training.batches import Batches
from scoresde.training.ema import Averages
from scoresde.training.step import Step

# ---- data ----


@pytest.mark.parametrize(("n", "size"), [(10, 3), (10, 10), (3, 8), (1, 5)])
def test_every_epoch_is_a_permutation_and_batches_tile_the_sequence(n: int, size: int) -> None:
    data = torch.arange(n)[:, None]
    batches = Batches(data, 5, torch.device("cpu"))
    sequence = torch.cat([batches.at(k * size, size) for k in range(4 * n)]).flatten()
    for epoch in range(4 * size):
        assert sorted(sequence[epoch * n : (epoch + 1) * n].tolist()) == list(range(n))
    # a function of the position alone: another cut, from the end to the beginning, by another object
    other = Batches(data, 5, torch.device("cpu"))
    assert torch.equal(torch.cat([other.at(p, 1) for p in reversed(range(2 * n))]).flatten().flip(0), sequence[: 2 * n])


def test_seeds_give_other_orders() -> None:
    orders = [Batches(torch.arange(50), seed, torch.device("cpu")).at(0, 50).tolist() for seed in range(3)]
    assert len({tuple(order) for order in orders}) == 3


# ---- average ----


def _vector(values: Tensor) -> nn.Module:
    module = nn.Module()
    module.register_parameter("w", nn.Parameter(values))
    return module


def test_ema_forgets_its_start_as_the_warm_up_says() -> None:
    # the product of (1 + n) / (10 + n) over the first N updates is 1 / C(N + 9, 9)
    start, other = _vector(torch.tensor([1.0, 0.0])), _vector(torch.tensor([0.0, 1.0]))
    ema = Ema(start, 0.999)
    for n in range(1, 15):
        ema.update(other)
        average = next(ema.module.parameters())
        torch.testing.assert_close(average[0], torch.tensor(1 / comb(n + 9, 9)), rtol=1e-5, atol=0)
        torch.testing.assert_close(average.sum(), torch.tensor(1.0))
    assert ema.updates == 14


def test_ema_after_its_warm_up_is_that_of_torch() -> None:
    model = Net()
    ema, theirs = Ema(model, 0.9), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=False)
    ema.updates = 100
    theirs.update_parameters(model)  # the first call copies
    for step in range(5):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(step)))
            model.calls += 1
        ema.update(model)
        theirs.update_parameters(model)
    for mine, other in zip(ema.module.parameters(), theirs.module.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert ema.module.calls == model.calls == 5


def test_ema_is_a_module_of_its_own() -> None:
    model = Net().to(torch.bfloat16)
    ema = Ema(model, 0.0)
    with torch.no_grad():
        model.out.bias.fill_(3.0)
    assert not torch.equal(ema.module.out.bias, model.out.bias.float())
    ema.update(model)
    for mine, raw in zip(ema.module.parameters(), model.parameters(), strict=True):
        assert mine.dtype == torch.float32
        assert not mine.requires_grad
        assert torch.equal(mine, raw.float())  # decay 0: a plain copy
    assert not ema.module.training
    assert model.training
    with pytest.raises(InputError, match=r"decay: 1\.0"):
        Ema(model, 1.0)


# ---- learning rate ----


def test_learning_rate_rises_then_falls_to_zero() -> None:
    rates = [Trainer(steps=1000, warmup=100, schedule="cosine").rate(k) for k in range(1000)]
    peak = int(np.argmax(rates))
    assert 90 <= peak <= 100
    assert all(np.diff(rates[: peak + 1]) > 0)
    assert all(np.diff(rates[peak:]) < 0)
    assert 0 < rates[0] <= 0.01
    assert 0 < rates[-1] < 1e-5
    assert Trainer(steps=1000, warmup=0, schedule="cosine").rate(500) == pytest.approx(0.5)
    assert {Trainer(steps=1000, warmup=0, schedule="constant").rate(k) for k in range(1000)} == {1.0}


def test_learning_rate_is_its_formula_before_and_after_a_restart() -> None:
    with_restart = Trainer(steps=50, warmup=4, schedule="cosine", restart=20)
    for step in range(50):
        k, n = (step, 20) if step < 20 else (step - 20, 30)
        expected = min(1, (k + 1) / 4) * (1 + np.cos(np.pi * k / n)) / 2
        assert with_restart.rate(step) == pytest.approx(expected, rel=1e-12)
    assert [Trainer(steps=9, warmup=4, schedule="constant").rate(k) for k in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_what_is_due_after_so_many_steps() -> None:
    rhythms = {"log_every": 2, "evaluate_every": 3, "checkpoint_every": 4, "picture_every": 5, "snapshot_every": 6}
    settings = Trainer(steps=61, ema_power=(0.1,), **rhythms)
    for done in range(1, 61):
        names = {"log": 2, "evaluation": 3, "checkpoint": 4, "picture": 5, "snapshot": 6}
        assert settings.due(done) == {name for name, every in names.items() if done % every == 0}
    assert settings.due(61) == {"evaluation", "checkpoint"}
    assert Trainer(steps=9, **{**rhythms, "picture_every": 0}).due(6) == {"log", "evaluation"}
    assert (Trainer(ema=0.5).decays, Trainer(ema=[0.5, 0.9]).decays) == ((0.5,), (0.5, 0.9))


def test_learning_rate_is_applied_and_given_back(tmp_path: Path) -> None:
    model, optimizer = model_and_optimizer()
    fit(tmp_path, model=model, optimizer=optimizer, log_every=1)
    logged = {row["step"]: row["lr"] for row in rows(tmp_path) if "lr" in row}
    assert logged == {k + 1: 1e-2 * Trainer(steps=STEPS, warmup=5, schedule="cosine").rate(k) for k in range(STEPS)}
    assert [group["lr"] for group in optimizer.param_groups] == [1e-2]


# ---- one step ----


def _step(model: ScoreModel, optimizer: torch.optim.Optimizer, clip: float = 0.0, seed: int = 7) -> Step:
    batches = Batches(moons().train, seed, torch.device("cpu"))
    loss = DenoisingScoreMatching()
    settings = Trainer(batch_size=32, clip=clip, warmup=0, schedule="constant")
    return Step(model, Averages(model, [0.999]), optimizer, loss, batches, settings, seed)


@pytest.mark.parametrize("clip", [0.0, 1e-3, 1e3])
def test_clipping_bounds_the_step_and_nothing_else(clip: float) -> None:
    model, _ = model_and_optimizer()
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    step = _step(model, torch.optim.SGD(model.parameters(), lr=1.0), clip)
    step(0)
    moved = (nn.utils.parameters_to_vector(model.parameters()).detach() - before).norm().item()
    logged = step.window.summary()[0]["gradient_norm"]
    assert moved == pytest.approx(clip if clip == 1e-3 else logged, rel=1e-3)
    assert logged > 0.05  # the norm before clipping


@pytest.mark.parametrize("clip", [1e-3, 0.3, 1e3])
def test_clipping_is_the_same_to_the_bit_where_it_looks_first(clip: float) -> None:
    weights = []
    for on_host in (True, False):
        model, optimizer = model_and_optimizer()
        with torch.random.fork_rng([]):
            step = _step(model, optimizer, clip)
            step._on_host = on_host
            for k in range(20):  # longer than the inputs that are drawn ahead
                step(k)
        weights.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*weights)


def test_steps_may_begin_anywhere() -> None:
    # the same 40 steps in one go, and by a second object that begins in the middle of what the first drew ahead
    def run(cuts: list[int]) -> Tensor:
        model, optimizer = model_and_optimizer()
        averages = Averages(model, [0.999])
        settings = Trainer(batch_size=32, clip=1.0, warmup=0, schedule="constant")
        batches = Batches(moons().train, 7, torch.device("cpu"))
        with torch.random.fork_rng([]):
            for first, last in itertools.pairwise([0, *cuts, 40]):
                loss = DenoisingScoreMatching()
                step = Step(model, averages, optimizer, loss, batches, settings, 7, 32 * first)
                for k in range(first, last):
                    step(k)
        return torch.cat([p.flatten() for p in (*model.parameters(), *averages.first.parameters())])

    assert torch.equal(run([]), run([5, 21, 22]))


class _Copies(TorchDispatchMode):
    """Counts the operations by which a value reaches the host."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        if any(word in name for word in ("_local_scalar_dense", "nonzero", "is_nonzero", "aten::equal", "item")):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_a_step_never_waits_for_the_device() -> None:
    model, optimizer = model_and_optimizer()
    step = _step(model, optimizer, clip=1.0)
    step._on_host = False  # as on an accelerator
    step(0)
    with _Copies() as copies:
        for k in range(1, 5):
            step(k)
    assert copies.seen == []
    with _Copies() as copies:
        assert len(step.window) == 5
        step.window.summary()
    assert set(copies.seen) <= {"aten::_local_scalar_dense"}


def test_dropout_is_a_function_of_seed_and_step() -> None:
    def masks(seed: int, steps: range) -> list[tuple[Tensor, Tensor]]:
        """Of each step: which units were dropped, and of which one can tell since they were not zero before."""
        model, optimizer = model_and_optimizer()
        seen: list[tuple[Tensor, Tensor]] = []
        model.net.drop.register_forward_hook(lambda module, args, out: seen.append((out == 0, args[0] != 0)))
        with torch.random.fork_rng([]):
            step = _step(model, optimizer, seed=seed)
            for k in steps:
                step(k)
        return seen

    def agreement(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
        known = one[1] & other[1]
        assert known.sum() > 200
        return float((one[0] == other[0])[known].float().mean())

    whole, tail, other = masks(7, range(6)), masks(7, range(4, 6)), masks(8, range(6))
    assert [agreement(a, b) for a, b in zip(whole[4:], tail, strict=True)] == [1.0, 1.0]  # whatever the weights
    for k in range(5):  # independent masks agree in 0.8^2 + 0.2^2 of the units
        assert agreement(whole[k], whole[k + 1]) == pytest.approx(0.68, abs=0.1)
        assert agreement(whole[k], other[k]) == pytest.approx(0.68, abs=0.1)


# ---- Muon ----


def _pulled(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> list[Tensor]:
    for k in range(steps):
        for i, p in enumerate(net.parameters()):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(10 * k + i)).to(p)
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def test_muon_is_those_of_torch_put_together() -> None:
    mine, theirs = nn.Linear(6, 5), nn.Linear(6, 5)
    theirs.load_state_dict(mine.state_dict())
    common, matrices, vectors = {"lr": 0.1, "weight_decay": 0.05}, {"momentum": 0.8, "ns_steps": 4}, {"eps": 0.5}
    vectors |= {"betas": (0.7, 0.8)}
    muon = torch.optim.Muon([theirs.weight], **common, **matrices, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([theirs.bias], **common, **vectors)
    ours = _pulled(mine, Muon(mine.parameters(), **common, **matrices, **vectors))
    for k in range(4):
        for i, p in enumerate(theirs.parameters()):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(10 * k + i))
        muon.step()
        adamw.step()
    assert torch.equal(ours[0], theirs.weight)
    torch.testing.assert_close(ours[1], theirs.bias)


def test_muon_moves_a_convolution_by_an_orthogonal_matrix_of_the_size_of_adam() -> None:
    conv = nn.Conv2d(16, 8, 3)
    before = conv.weight.detach().clone()
    moved = (_pulled(conv, Muon(conv.parameters(), lr=0.01, weight_decay=0.0), 1)[0] - before).flatten(1)
    # singular values of 8 x 144, all about 0.2 sqrt(144) lr; the root mean square is then about 0.2 lr
    singular = torch.linalg.svdvals(moved) / (0.2 * 12 * 0.01)
    assert 0.6 < singular.min() < singular.max() < 1.3
    assert moved.square().mean().sqrt() == pytest.approx(0.2 * 0.01, rel=0.3)


def test_muon_does_not_ask_for_the_layout_in_memory() -> None:
    nets = [nn.Conv2d(4, 6, 3) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    nets[1].weight.data = nets[1].weight.data.contiguous(memory_format=torch.channels_last)
    plain, turned = (_pulled(net, Muon(net.parameters(), lr=0.1))[0] for net in nets)
    assert nets[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert (plain - turned).abs().max() < 2e-3  # bfloat16 adds up in another order; an update is 0.02


def test_muon_says_what_is_out_of_range() -> None:
    for name, value in {"lr": -1.0, "momentum": 1.0, "ns_steps": 0, "betas": (0.9, 1.0), "eps": -1.0}.items():
        with pytest.raises(InputError, match=rf"^{name}: .* give"):
            Muon(nn.Linear(1, 1).parameters(), **{name: value})


def test_weights_of_noise_levels_multiply_the_loss() -> None:
    """The gradient is linear in them, and that of no weights at ones; a share of a batch counts as such."""
    model, optimizer = model_and_optimizer()
    step = _step(model, optimizer)
    batch, _, (seed,) = step.draw(0, 0)

    def gradient(weight: Tensor | None, share: float = 1.0) -> Tensor:
        model.zero_grad()
        step._pass(batch, weight, seed, share)
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    plain, rising = gradient(None), torch.linspace(0.5, 1.5, 32, dtype=torch.float64)
    torch.testing.assert_close(gradient(3 * torch.ones(32, dtype=torch.float64)), 3 * plain)
    torch.testing.assert_close(gradient(rising) + gradient(2 - rising), 2 * plain)
    torch.testing.assert_close(gradient(None, 0.25), plain / 4)
