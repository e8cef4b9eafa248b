"""The switches that make training faster or smaller: what they may not change, and what they may."""

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from training_job import assert_same, fit, last, model_and_optimizer, moons, resume, rows, trainer

from scoresde import VPSDE, InputError, ScoreModel, nets
from scoresde.data import Dataset, Transform
from scoresde.loss import Batch, DenoisingScoreMatching, LossTerms
from scoresde.training import Muon, Trainer, TrainingDiverged, acceleration, heldout, profile
from scoresde.training import checkpoint as checkpoints
from scoresde.training.acceleration import gradient_scaler, half_type
from scoresde.training.batches import Batches
from scoresde.training.ema import Averages
from scoresde.training.profile import matmul_peak
from scoresde.training.step import Step

CPU = torch.device("cpu")
SWITCHES: dict[str, dict[str, Any]] = {
    "none": {},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "micro-batches": {"micro_batch": 2},
    "channels last": {"channels_last": True},
    "recomputed": {"checkpoint_activations": True},
    "compiled": {"compile": True},
    "profiled": {"profile": True},
    "several averages": {"ema": (0.9, 0.99, 0.0)},
    "muon": {"muon": True},
    "power functions": {"ema_power": (0.05, 0.1), "snapshot_every": 3},
}
EVERYTHING = {k: v for changes in SWITCHES.values() for k, v in changes.items() if k != "compile"}


def images() -> Dataset:
    draws = torch.randn(40, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    return Dataset(draws[:32], draws[32:], Transform("image", (2, 8, 8)))


def unet(dropout: float = 0.3) -> tuple[ScoreModel, torch.optim.Optimizer]:
    """A U-Net whose weights are all away from zero, with its optimizer."""
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        model = ScoreModel(nets.UNet((2, 8, 8), 8, (1,), attention=(0,), groups=2, dropout=dropout), VPSDE())
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.05 * torch.randn(p.shape))
    return model, torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)


def job(run: Path, dropout: float = 0.3, resumed: bool = False, **changes: Any) -> ScoreModel:
    model, optimizer = unet(dropout)
    if changes.pop("muon", False):
        optimizer = Muon(model.parameters(), lr=1e-2)
    short = {"steps": 12, "batch_size": 4, "log_every": 3, "evaluate_every": 0, "checkpoint_every": 5, "keep_last": 9}
    go = resume if resumed else fit
    go(run, model=model, optimizer=optimizer, dataset=images(), **{**short, **changes})
    return model


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling ends with a graph, since code for the processor takes a minute, and evaluations are short.

    Large products of float16 take half a minute on a processor, so those of float32 stand in.
    """
    monkeypatch.setattr(profile, "matmul_peak", lambda device, dtype: matmul_peak(device, torch.float32))
    monkeypatch.setattr(acceleration, "_BACKEND", "eager")
    monkeypatch.setattr(heldout, "_BATCHES", 2)


class Killed(Exception):
    pass


class _Kills(DenoisingScoreMatching):
    """Breaks off in the middle of a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
        self.left -= model.training
        if self.left < 0:
            raise Killed
        return super().__call__(model, batch)


# ---- all of them ----


@pytest.mark.parametrize("changes", [*SWITCHES.values(), EVERYTHING], ids=[*SWITCHES, "everything"])
def test_killed_it_resumes_to_the_bit_and_the_names_in_a_checkpoint_stay(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    model = job(whole, **changes)
    with pytest.raises(Killed):
        job(cut, loss=_Kills(8 * 4 // changes.get("micro_batch", 4)), **changes)
    assert checkpoints.saved_steps(cut) == [5]
    job(cut, resumed=True, **changes)
    assert_same(last(whole, 12), last(cut, 12))
    assert rows(whole) == rows(cut)
    snapshots = checkpoints.snapshots(whole)
    assert [*snapshots] == ([3, 6, 9, 12] if "ema_power" in changes else []) == [*checkpoints.snapshots(cut)]
    for step, path in snapshots.items():
        assert_same(checkpoints.read(path), checkpoints.read(checkpoints.snapshots(cut)[step]))
    plain = set(unet()[0].state_dict())
    assert all(tensors.keys() == plain for tensors in last(whole, 12).modules.values())
    assert all(t.dtype == torch.float32 for tensors in last(whole, 12).modules.values() for t in tensors.values())
    assert not any("forward" in vars(module) for module in model.modules())  # as it came


# ---- micro-batches ----


def constant(**changes: Any) -> Trainer:
    return Trainer(clip=0.0, warmup=0, schedule="constant", **changes)


def _step(
    model: ScoreModel, optimizer: torch.optim.Optimizer, loss: Any, micro_batch: int | None = None, **changes: Any
) -> Step:
    batches, settings = Batches(images().train, 7, CPU), constant(batch_size=12, micro_batch=micro_batch)
    return Step(model, Averages(model, [0.9]), optimizer, loss, batches, settings, 7, **changes)


class _Watched(DenoisingScoreMatching):
    """Remembers the data, times and noise that it was given."""

    def __init__(self, stratified: bool) -> None:
        super().__init__(stratified=stratified)
        self.seen: list[tuple[Tensor, ...]] = []

    def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
        self.seen.append((batch.x0, self.sample_times(model.sde, batch.u), batch.eps))
        return super().__call__(model, batch)


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("micro_batch", [1, 4, 6])
def test_micro_batches_have_the_gradient_of_the_whole_batch(micro_batch: int, stratified: bool) -> None:
    def gradient(micro: int | None) -> tuple[list[tuple[Tensor, ...]], Tensor, Tensor]:
        model, _ = unet(dropout=0.0)
        loss = _Watched(stratified)
        before = nn.utils.parameters_to_vector(model.parameters()).detach().to(torch.float64)
        step = _step(model, torch.optim.SGD(model.parameters(), lr=1.0), loss, micro_batch=micro)
        step(5)
        moved = nn.utils.parameters_to_vector(model.parameters()).detach() - before
        return loss.seen, moved, torch.tensor(step.window.summary()[0]["loss"])

    (whole,), moved, loss = gradient(None)
    parts, moved_in_parts, loss_of_parts = gradient(micro_batch)
    assert [len(x0) for x0, _, _ in parts] == [micro_batch] * (12 // micro_batch)
    in_parts = [torch.cat(separate) for separate in zip(*parts, strict=True)]
    orders = whole[1].argsort(), in_parts[1].argsort()  # the parts come in the order of their sum
    for together, separate in zip(whole, in_parts, strict=True):
        # whatever micro-batch it is in, sample i has its own data, time and noise
        torch.testing.assert_close(separate[orders[1]], together[orders[0]], rtol=0, atol=1e-14)
    torch.testing.assert_close(loss_of_parts, loss, rtol=1e-6, atol=0)
    assert (moved_in_parts - moved).norm() < 1e-6 * moved.norm()


def test_each_micro_batch_drops_other_values_and_the_same_ones_when_the_step_is_repeated() -> None:
    def masks(steps: range) -> list[Tensor]:
        model, optimizer = model_and_optimizer()
        seen: list[Tensor] = []
        model.net.drop = nn.Dropout(0.5)
        model.net.drop.register_forward_hook(lambda module, args, out: seen.append(out == 0))
        averages, batches, loss = Averages(model, [0.9]), Batches(moons().train, 7, CPU), DenoisingScoreMatching()
        with torch.no_grad():
            model.net.inner.bias.fill_(9.0)  # no unit is zero but for dropout
        optimizer.param_groups[0]["lr"] = 0.0
        with torch.random.fork_rng([]):
            step = Step(model, averages, optimizer, loss, batches, constant(batch_size=32, micro_batch=8), 7)
            for k in steps:
                step(k)
        return seen

    first, second = masks(range(3)), masks(range(1, 3))
    assert len(first) == 12
    assert all(torch.equal(a, b) for a, b in zip(first[4:], second, strict=True))
    for a, b in itertools.combinations(first, 2):
        assert (a == b).float().mean() == pytest.approx(0.5, abs=0.15)


# ---- half precision ----


def test_half_precision_is_of_the_network_alone() -> None:
    inside: list[torch.dtype] = []
    out: dict[Any, Tensor] = {}
    for precision in ("float32", "bf16", "fp16"):
        model, _ = unet(dropout=0.0)
        model.net.stem.register_forward_hook(lambda module, args, y: inside.append(y.dtype))
        loss = DenoisingScoreMatching()
        x0, u, eps = (
            images().train[:8],
            torch.rand(8, generator=torch.Generator().manual_seed(0)),
            torch.ones(8, 2, 8, 8),
        )
        with acceleration.Acceleration(half_type(precision, CPU)).applied(model.net):
            terms = loss(model, Batch(x0, u, eps))
            terms.loss.mean().backward()
        assert terms.loss.dtype == torch.float32
        assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
        out[precision] = terms.loss.detach()
    assert inside == [torch.float32, torch.bfloat16, torch.float16]
    errors = {p: float(((out[p] - out["float32"]) / out["float32"]).abs().max()) for p in ("bf16", "fp16")}
    assert 0 < errors["fp16"] < errors["bf16"] < 0.1  # 11 bits against 8
    assert half_type("auto", CPU) is None


class _Tiny(DenoisingScoreMatching):
    """So small a loss that its gradient is zero in float16, or so large a one that it is infinite."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
        loss, lam = super().__call__(model, batch)
        return LossTerms(loss * self.factor, lam)


def _moved(scaler: torch.amp.GradScaler, factor: float, steps: int = 1) -> tuple[Tensor, Step]:
    model, _ = unet(dropout=0.0)
    before = nn.utils.parameters_to_vector(model.parameters()).detach()
    optimizer = torch.optim.SGD(model.parameters(), lr=1 / factor)
    step = _step(model, optimizer, _Tiny(factor), scaler=scaler)
    with acceleration.Acceleration(torch.float16).applied(model.net):
        for k in range(steps):
            step(k)
    return nn.utils.parameters_to_vector(model.parameters()).detach() - before, step


def test_the_loss_scale_keeps_small_gradients_of_float16() -> None:
    reference, _ = _moved(gradient_scaler(None, CPU), 1.0)
    scaled, step = _moved(gradient_scaler(torch.float16, CPU), 1e-6)
    lost, _ = _moved(gradient_scaler(None, CPU), 1e-6)
    assert (scaled - reference).norm() < 0.03 * reference.norm()
    assert (lost - reference).norm() > 0.3 * reference.norm()
    assert step.window.summary()[0]["skipped_steps"] == 0


def test_a_step_whose_gradient_overflows_is_skipped_and_counted() -> None:
    moved, step = _moved(gradient_scaler(torch.float16, CPU), 1e3)
    assert torch.equal(moved, torch.zeros_like(moved))
    assert step.scaler.get_scale() == 2.0**15
    moved, step = _moved(gradient_scaler(torch.float16, CPU), 1e3, steps=12)  # the scale is halved until it fits
    scalars, bad = step.window.summary()
    assert bad is None
    assert 0 < scalars["skipped_steps"] < 12
    assert step.scaler.get_scale() == 2.0 ** (16 - scalars["skipped_steps"])
    assert torch.isfinite(torch.tensor(scalars["gradient_norm"]))
    assert moved.norm() > 0


def test_a_gradient_that_no_scale_can_save_ends_the_training(tmp_path: Path) -> None:
    class Broken(DenoisingScoreMatching):
        def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
            loss, lam = super().__call__(model, batch)
            return LossTerms(loss + torch.sqrt(0 * loss), lam)

    with pytest.raises(TrainingDiverged, match=r"no gradient is finite, even at a loss scale of 0\.5"):
        job(tmp_path, loss=Broken(), precision="fp16", steps=17, log_every=17, checkpoint_every=0)
    assert checkpoints.saved_steps(tmp_path) == []


class _Waits(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(word in func.name() for word in ("_local_scalar_dense", "nonzero", "aten::equal", "item")):
            self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


def test_micro_batches_and_the_loss_scale_wait_for_nothing() -> None:
    model, optimizer = unet()
    step = _step(model, optimizer, DenoisingScoreMatching(), micro_batch=4, scaler=gradient_scaler(torch.float16, CPU))
    step.clip, step._on_host = 1.0, False  # as on an accelerator
    switches = acceleration.Acceleration(torch.float16, channels_last=True, checkpoint_activations=True)
    with switches.applied(model.net):
        step(0)
        with _Waits() as waits:
            step(1)
    assert waits.seen == []


# ---- compiled ----


def test_compiling_that_fails_costs_one_line_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler here\nand more")

    monkeypatch.setattr(acceleration, "_BACKEND", broken)
    job(tmp_path / "plain")
    capfd.readouterr()
    job(tmp_path / "compiled", compile=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("compile: failed (RuntimeError: no compiler here)")
    assert err.endswith("going on without\n")
    assert_same(last(tmp_path / "plain", 12), last(tmp_path / "compiled", 12))


def test_a_compiled_network_is_called_and_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[int] = []

    def counting(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(sum(node.op == "call_function" for node in graph.graph.nodes))
        return graph.forward

    monkeypatch.setattr(acceleration, "_BACKEND", counting)
    plain = job(tmp_path / "plain", dropout=0.0)
    compiled = job(tmp_path / "compiled", dropout=0.0, compile=True)
    assert len(graphs) == 1  # the whole network in one, once
    assert graphs[0] > 20
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# ---- memory ----


def _gradient(switches: acceleration.Acceleration, net: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """The gradient of a sum of squares, and how many values were kept for the way back."""
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        kept[t.data_ptr()] = t.numel()
        return t

    switches.prepare(net)
    net.zero_grad()
    with torch.random.fork_rng([]), switches.applied(net):
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            loss = (net(x, torch.linspace(-1, 1, len(x))) ** 2).sum()
        loss.backward()
        drawn = torch.rand(1)
    weights = {p.data_ptr() for p in net.parameters()}
    gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None] + [drawn])
    return gradient, sum(size for address, size in kept.items() if address not in weights)


SHAPE = (2, 8, 8)
TINY = {
    "unet": lambda: nets.UNet(SHAPE, 8, (1, 2), blocks=2, groups=4, embedding=16, dropout=0.3),
    "ncsnpp": lambda: nets.NCSNpp(SHAPE, 8, (1, 2), blocks=1, attention=(1,), dropout=0.3),
    "adm": lambda: nets.ADM(SHAPE, 32, (1, 2), blocks=1, attention=(1,), head_width=32, dropout=0.3),
    "edm2": lambda: nets.EDM2(SHAPE, 16, (1, 2), blocks=1, attention=(1,), head_width=16, dropout=0.3),
    "dit": lambda: nets.DiT(SHAPE, width=32, depth=3, heads=2, patch=2),
    "mlp": lambda: nets.ResidualMLP(SHAPE, width=64, blocks=4, dropout=0.3),
}


@pytest.mark.parametrize("name", TINY)
def test_recomputed_activations_change_no_bit_and_take_less_memory(name: str) -> None:
    x = images().train[:8]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = TINY[name]()
        for parameter in net.parameters():  # where outputs begin at zero, gradients say little
            nn.init.normal_(parameter, std=1.0 if name == "edm2" else 0.1)
    with torch.no_grad():
        for _ in range(3):
            net(x, torch.zeros(len(x)))  # the weights of an EDM2 are scaled back when it is called
    plain, kept = _gradient(acceleration.Acceleration(), net, x)
    again, kept_again = _gradient(acceleration.Acceleration(checkpoint_activations=True), net, x)
    if name == "edm2":  # once more when recomputed, which is felt in the last bits of the weights
        assert (again - plain).norm() < 1e-4 * plain.norm()
    else:
        assert torch.equal(plain, again)  # dropout, and the generator after it, too
    assert kept_again < 0.6 * kept


def test_a_network_without_such_blocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^checkpoint_activations: True .* Net has no module .*checkpointable = True"):
        fit(tmp_path, checkpoint_activations=True)
    assert list(tmp_path.iterdir()) == []


def test_channels_last_is_a_layout_and_nothing_else() -> None:
    net, x = unet(dropout=0.3)[0].net, images().train[:8]
    plain, _ = _gradient(acceleration.Acceleration(), net, x)
    assert net.down[0].blocks[0].conv1.weight.is_contiguous()
    turned, _ = _gradient(acceleration.Acceleration(channels_last=True), net, x)
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in net.parameters() if p.ndim == 4)
    assert not net.down[0].blocks[0].conv1.weight.is_contiguous()
    assert (turned - plain).norm() < 1e-5 * plain.norm()


@pytest.mark.parametrize(("shape", "strides"), [((2, 3, 4, 5), (60, 1, 15, 3)), ((2, 3, 4), (12, 4, 1))])
def test_images_are_given_to_the_network_with_channels_last(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    net = nn.Sequential(nn.Identity())
    with acceleration.Acceleration(channels_last=True).applied(net):
        seen = net(torch.arange(math.prod(shape)).view(shape))
    assert seen.stride() == strides
    assert torch.equal(seen, torch.arange(math.prod(shape)).view(shape))


# ---- profile ----


def test_the_profile_says_where_the_time_goes_and_counts_the_operations(tmp_path: Path, capfd: Any) -> None:
    class Slow(DenoisingScoreMatching):
        def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
            time.sleep(0.004 if model.training else 0)
            return super().__call__(model, batch)

    result = fit(tmp_path, profile=True, loss=Slow(), steps=30, evaluate_every=0, checkpoint_every=10)
    content = json.loads((tmp_path / "profile.json").read_text())
    seconds = content["seconds_per_step"]
    assert [*seconds] == ["data", "forward", "backward", "optimizer", "average", "logging", "evaluation", "checkpoint"]
    assert content["steps"] == 25  # without the first five
    assert 0.004 < seconds["forward"] < 0.02
    assert 25 * sum(seconds.values()) < result.seconds
    # 3 -> 32 -> 2 features: forward, gradients of the weights, and of the values in between
    assert content["flop_per_step"] == 32 * 2 * (2 * (3 * 32 + 32 * 2) + 32 * 2)
    assert content["flop_per_second"] == pytest.approx(
        content["flop_per_step"] / (seconds["forward"] + seconds["backward"])
    )
    assert 1e8 < content["matmul_peak"] < 1e14
    out = capfd.readouterr().out
    assert all(f"\n  {name} " in out for name in seconds)
    assert max(map(len, out.splitlines())) <= 100


def test_the_peak_is_that_of_the_fastest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, int]] = []

    def repeat(product: Any, **options: int) -> list[float]:
        product()
        asked.append(options)
        return [2.0, 0.5, 1.0]

    monkeypatch.setattr("timeit.repeat", repeat)
    assert matmul_peak(CPU, torch.float32) == 2 * 1024 * 1024 * 1024 / 0.5
    assert asked == [{"number": 1, "repeat": 8}]


def test_a_profile_changes_nothing(tmp_path: Path) -> None:
    job(tmp_path / "plain")
    job(tmp_path / "profiled", profile=True)
    assert_same(last(tmp_path / "plain", 12), last(tmp_path / "profiled", 12))
    assert not (tmp_path / "plain" / "profile.json").exists()


# ---- settings ----


@pytest.mark.parametrize("value", [(0.0,), (0.3,), (0.1, 0.1), (-0.1,)])
def test_lengths_of_power_functions_out_of_range_are_named(value: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"^ema_power: .* give different lengths in \(0, 0.288\)"):
        trainer(ema_power=value)
