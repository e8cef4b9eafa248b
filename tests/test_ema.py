"""Averages of the weights: power functions, their snapshots, and averages of other lengths made of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn
from training_job import fit, last, model_and_optimizer, resume

from scoresde import InputError, runs
from scoresde.cli.main import main
from scoresde.training import checkpoint as checkpoints
from scoresde.training.ema import Averages, PowerAverage
from scoresde.training.power_ema import Profile, combination, exponent, product
from scoresde.training.snapshots import reconstruct

LENGTHS = [0.01, 0.05, 0.1, 0.2, 0.28]


def value(profile: Profile, tau: float) -> float:
    return (profile.gamma + 1) / profile.step * (tau / profile.step) ** profile.gamma


@pytest.mark.parametrize("length", LENGTHS)
def test_a_length_is_the_standard_deviation_of_the_profile(length: float) -> None:
    profile = Profile(exponent(length), 1.0)
    mass, mean, square = (quad(lambda tau, k=k: tau**k * value(profile, tau), 0, 1)[0] for k in range(3))
    assert profile.gamma > 0
    assert mass == pytest.approx(1)
    assert (square - mean**2) ** 0.5 == pytest.approx(length)


def test_the_published_exponents() -> None:
    # Karras et al. 2024 (arXiv 2312.02696), section 3.1
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)


@pytest.mark.parametrize("length", [0.0, -0.1, 0.289, 1.0, float("nan")])
def test_impossible_lengths_are_refused(length: float) -> None:
    with pytest.raises(InputError, match=r"^length: .* give a share of the training in \(0, 0\.288\)"):
        exponent(length)


@pytest.mark.parametrize(("s", "t"), [(1.0, 1.0), (0.3, 1.0), (1.0, 0.05)])
def test_products_of_profiles(s: float, t: float) -> None:
    a, b = Profile(6.94, 1000 * s), Profile(16.97, 1000 * t)
    integral, _ = quad(lambda tau: value(a, tau) * value(b, tau), 0, 1000 * min(s, t), epsabs=0)
    assert product(a, b) == pytest.approx(integral, rel=1e-6) == product(b, a)


class _Number(nn.Module):
    """Weights that are steps' numbers, so that an average of them is the mean step of the average."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))


def test_a_power_average_weighs_each_step_by_its_share_of_the_profile() -> None:
    module, n = _Number(), 50
    average = PowerAverage(module, 0.1)
    for step in range(n):
        module.w.data.copy_(torch.tensor([1.0, step, float(step == 30)]))
        module.calls += 1
        average.update(module)
    shares = [quad(lambda tau: value(Profile(exponent(0.1), n), tau), i, i + 1)[0] for i in range(n)]
    expected = torch.tensor([1.0, np.dot(shares, range(n)), shares[30]], dtype=torch.float64)
    torch.testing.assert_close(average.module.w.data, expected, rtol=1e-6, atol=0)
    assert (average.updates, int(average.module.calls)) == (n, n)


def test_a_combination_of_a_profile_with_itself_is_that_profile() -> None:
    known = [Profile(exponent(length), step) for step in (100, 200, 300) for length in (0.05, 0.1)]
    for i, profile in enumerate(known):
        factors, error = combination(known, profile)
        assert factors == pytest.approx([float(i == j) for j in range(6)], abs=1e-6)
        assert error < 1e-6


@pytest.mark.parametrize("length", [0.03, 0.07, 0.13, 0.2])
def test_more_snapshots_come_nearer(length: float) -> None:
    def left(n: int) -> float:
        steps = [1000 * (i + 1) / n for i in range(n)]
        known = [Profile(exponent(s), step) for step in steps for s in (0.05, 0.1)]
        factors, error = combination(known, Profile(exponent(length), 1000))
        assert sum(factors) == pytest.approx(1, abs=1e-9)  # a constant stays what it is
        return error

    errors = [left(n) for n in (1, 4, 16, 64)]
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < 3e-3


def test_several_averages_are_those_that_each_would_be_alone() -> None:
    def run(*arguments: Any) -> dict[str, Tensor]:
        module = nn.Linear(3, 2)
        nn.init.zeros_(module.weight)
        averages = Averages(module, *arguments)
        for step in range(20):
            module.weight.data.add_(torch.randn(2, 3, generator=torch.Generator().manual_seed(step)))
            averages.update(module)
        assert averages.first is averages.members["ema"].module
        return {name: average.module.weight.data for name, average in averages.members.items()}

    together = run((0.9, 0.5, 0.0), (0.1, 0.2))
    assert [*together] == ["ema", "ema-0.5", "ema-0.0", "power-0.1", "power-0.2"]
    alone = [run((0.9,))["ema"], run((0.5,))["ema"], run((0.0,))["ema"]]
    alone += [run((0.9,), (0.1,))["power-0.1"], run((0.9,), (0.2,))["power-0.2"]]
    for mine, other in zip(together.values(), alone, strict=True):
        assert torch.equal(mine, other)


# ---- on disk ----

POWER = {"ema": (0.9, 0.99), "ema_power": (0.05, 0.1), "snapshot_every": 4, "evaluate_every": 0, "checkpoint_every": 20}
POWER |= {"schedule": "constant"}  # so that the weights jitter to the end


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with averages of three more lengths that were kept all along; copy it, do not change it."""
    run = tmp_path_factory.mktemp("averages")
    fit(run, **{**POWER, "ema_power": (0.05, 0.1, 0.03, 0.07, 0.15)}, keep_last=9)
    for path in [*checkpoints.snapshots(run).values()]:
        for length in (0.03, 0.07, 0.15):
            _forget(path, f"power-{length}")
    return run


def _forget(path: Path, name: str) -> None:
    (path / f"{name}.safetensors").unlink()
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest[f"{name}.safetensors"]
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def _vector(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([t.flatten().double() for name, t in tensors.items() if "calls" not in name])


@pytest.mark.parametrize("length", [0.03, 0.07, 0.15])
def test_a_length_made_afterwards_is_that_which_would_have_been_kept(copy: Path, length: float) -> None:
    model, _ = model_and_optimizer()
    direct = last(copy).modules[f"power-{length}"]
    for other in (0.03, 0.07, 0.15):
        _forget(checkpoints.at_step(copy, 60), f"power-{other}")
    made = reconstruct(copy, model, length)
    assert (made.step, made.averages) == (60, 30)  # 14 snapshots and the checkpoint, of two lengths each
    ema = checkpoints.read(checkpoints.find(copy, f"length-{length}")).modules["ema"]
    away = (_vector(direct) - _vector(last(copy).modules["model"])).norm()  # what averaging does at all
    off = (_vector(ema) - _vector(direct)).norm()
    assert off < 0.02 * away
    assert made.error < 0.05
    assert ema.keys() == direct.keys()
    assert torch.equal(ema["net.calls"], direct["net.calls"])


def test_a_length_that_was_kept_is_found_again(copy: Path) -> None:
    model, _ = model_and_optimizer()
    made = reconstruct(copy, model, 0.05, "40")
    assert made.step == 40
    ema = checkpoints.read(made.path).modules["ema"]
    torch.testing.assert_close(
        _vector(ema), _vector(checkpoints.read(checkpoints.at_step(copy, 40)).modules["power-0.05"]), rtol=0, atol=1e-6
    )
    assert checkpoints.saved_steps(copy) == [20, 40, 60]
    assert reconstruct(copy, model, 0.05, "40").path == made.path  # again, in its place


def test_snapshots_of_a_course_that_was_left_are_not_mixed_in(copy: Path) -> None:
    five = {**POWER, "ema_power": (0.05, 0.1, 0.03, 0.07, 0.15)}
    fit(copy, checkpoints.read(checkpoints.at_step(copy, 20)), steps=30, keep_last=9, **five)
    assert [*checkpoints.snapshots(copy)] == [4, 8, 12, 16, 20, 24, 28]
    resume(copy, steps=32, keep_last=9, **five)
    assert [*checkpoints.snapshots(copy)][-1] == 32


def test_snapshots_of_a_training_that_never_saved_are_not_mixed_in(tmp_path: Path) -> None:
    def broken(model: Any, step: int) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, evaluate=broken, **{**POWER, "evaluate_every": 10, "checkpoint_every": 0})
    assert [*checkpoints.snapshots(tmp_path)] == [4, 8]
    fit(tmp_path, steps=6, **{**POWER, "snapshot_every": 3})
    assert [*checkpoints.snapshots(tmp_path)] == [3, 6]


def test_what_cannot_be_averaged_is_said(copy: Path, tmp_path: Path) -> None:
    model, _ = model_and_optimizer()
    fit(tmp_path / "plain", steps=2)
    with pytest.raises(InputError, match=r"no power-function averages; train with trainer\.ema_power=\["):
        reconstruct(tmp_path / "plain", model, 0.1)
    with pytest.raises(InputError, match=r"^length: 0\.5"):
        reconstruct(copy, model, 0.5)
    made = reconstruct(copy, model, 0.1)
    with pytest.raises(InputError, match=r"length-0\.1 has no power-function averages"):
        reconstruct(copy, model, 0.2, made.path.name)
    (checkpoints.snapshots(copy)[8] / "power-0.1.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"snapshot: .*snapshot-00000008 is damaged: .* delete the folder"):
        reconstruct(copy, model, 0.1)
    with pytest.raises(InputError, match=r"checkpoint: length-0\.2 is not in .*, length-0\.1"):
        checkpoints.find(copy, "length-0.2")


@pytest.mark.parametrize("name", ["power-abc", "power-", "power-nan", "power-0.5", "power-1e-200"])
def test_a_snapshot_without_a_length_is_named(copy: Path, name: str) -> None:
    snapshot = checkpoints.snapshots(copy)[8]
    (snapshot / "power-0.1.safetensors").rename(snapshot / f"{name}.safetensors")
    manifest = (snapshot / "manifest.json").read_text().replace("power-0.1.", f"{name}.")
    (snapshot / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match=rf"^snapshot: \S+08/{name} is not named by a length in \("):
        reconstruct(copy, model_and_optimizer()[0], 0.1)


def test_exponential_averages_may_begin_and_end_at_a_resume_and_others_not(copy: Path) -> None:
    weights = checkpoints.read(checkpoints.newest(copy)).modules["model"]
    more = resume(copy, steps=61, ema=(0.5, 0.999), schedule="constant", keep_last=9)
    assert more.path is not None
    after = checkpoints.read(more.path)
    assert [*after.averages] == ["ema", "ema-0.999"]
    for name, value in after.averages["ema-0.999"].items():
        d = min(0.999, (1 + 60) / (10 + 60))
        if value.is_floating_point():  # it began at the weights
            torch.testing.assert_close(value, d * weights[name] + (1 - d) * after.modules["model"][name])
    with pytest.raises(InputError, match=r"^ema_power: 0\.2 is an average from the first step on, and .* init="):
        resume(copy, steps=70, ema_power=(0.2,))


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["debug=tiny", "experiment=moons", "n=8", "logger=none", "trainer.steps=12", "samplers.dopri5.steps=2"]
    powers = ["trainer.ema=[0.2,0.99]", "trainer.ema_power=[0.05,0.1]", "trainer.snapshot_every=2"]
    assert main(["train", "run=a", *small, *powers]) == 0
    capsys.readouterr()
    assert main(["ema", "run=a", "length=0.08"]) == 0
    said = capsys.readouterr().out
    assert "length 0.08 of 12 steps, made of 12 averages" in said
    next_command = said.split("next     scoresde ")[1].split()
    assert main([*next_command, "n=8"]) == 0
    kept = [*(("last", name) for name in ("ema", "ema-0.99", "power-0.1", "raw")), ("length-0.08", "ema")]
    models = [runs.load("a", checkpoint, "cpu", weights).model.net for checkpoint, weights in kept]
    vectors = [nn.utils.parameters_to_vector(net.parameters()) for net in models]
    assert all(not torch.equal(a, b) for i, a in enumerate(vectors) for b in vectors[:i])
    capsys.readouterr()
    for arguments, line in (
        (["ema", "run=a", "length=0.4"], "length: 0.4 is not allowed; give a share of the training in (0, 0.288)"),
        (["ema", "run=a", "length=x"], "length: 'x' is not a number"),
        (["sample", "run=a", "weights=raw", "checkpoint=length-0.08"], "weights: 'raw' is not one of ema, which a,"),
        (["sample", "run=a", "weights=avg"], "weights: 'avg' is not one of ema, ema-0.99, power-0.05, power-0.1, raw"),
        (["train", "run=a", "trainer.ema_power=[0.1,0.2]"], "ema_power: 0.2 is an average from the first step"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {line}")
        assert error.count("\n") == 1
