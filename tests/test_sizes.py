"""Sizes that cannot be are refused at once, naming the size and what fits; those that can be are not."""

import re
import time
from pathlib import Path

import pytest

from scoresde import InputError, Sampler, room, runs
from scoresde.cli.main import main
from scoresde.constraints import Count, require_allowed
from scoresde.runs import sizes
from scoresde.training import Trainer

FAST = ["debug=tiny", "model=mlp", "model.net.width=8", "data=array", "data.path=t.npy", "logger=none", "n=6"]


@pytest.fixture(autouse=True)
def gigabyte(monkeypatch):
    """A machine with 1 GB."""
    monkeypatch.setattr(sizes, "memory", lambda: 10**9)
    monkeypatch.setattr(room, "memory", lambda: 10**9)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("trainer.batch_size=1000000000000000", "at most [0-9,]+, which fit into "),
        ("trainer.batch_size=100000000", r"trainer.batch_size: 100000000 needs at least 3.2 GB.* at most 31,250,000$"),
        ("trainer.steps=1000000000000000", "at most 1,000,000,000"),
        ("n=100000000000000", "at most [0-9,]+, which fit into "),
        ("n=200000000", r"^error: n: 200000000 needs at least 1.6 GB, and there are 1 GB; give at most 125,000,000$"),
        ("model.net.width=1000000", r"model.net.width: 1000000 needs at least \d+ TB, and there are 1 GB; give less"),
        ("model.net.blocks=1000000", "model.net.blocks: 1000000 is not allowed; give at most 10,000"),
        ("samplers.dpmpp_2m.steps=1000000000000", "samplers.dpmpp_2m.steps: 1000000000000 .* at most "),
        ("seed=-1", "seed: -1 is not allowed; give an integer >= 0"),
        ("seed=100000000000000000000", "seed: 1000.*; give at most 2.63 - 1"),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_anything(here, capsys, setting, says):
    assert main(["train", *FAST, setting]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.search(says, lines[0]), lines[0]
    assert [p.name for p in Path().iterdir()] == ["t.npy"]


def test_a_wide_unet_takes_no_memory_to_refuse(here):
    net = {"_target_": "scoresde.nets.UNet", "channels": 32, "multipliers": [1, 1_000_000]}
    begin = time.process_time()
    with pytest.raises(InputError, match=r"multipliers: 1000000 needs at least .* [TP]B"):
        sizes.require_network({"net": net}, (1, 8, 8), "cpu", ())
    assert time.process_time() - begin < 1


def test_sizes_are_counted_to_the_byte():
    net = {"_target_": "scoresde.nets.ResidualMLP", "width": 64, "blocks": 2}
    from scoresde.build import build

    weights = sum(p.numel() for p in build(net, event_shape=(2,)).parameters())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "memory", lambda: 16 * weights)
        sizes.require_network({"net": net}, (2,), "cpu", (), 4)
        patch.setattr(sizes, "memory", lambda: 16 * weights - 1)
        with pytest.raises(InputError, match=r"width: 64 needs at least"):
            sizes.require_network({"net": net}, (2,), "cpu", (), 4)
    sizes.require_samples(10**9 // 40, (10,))
    with pytest.raises(InputError, match=r"at most 25,000,000$"):
        sizes.require_samples(10**9 // 40 + 1, (10,))
    sizes.require_batch("batch_size", 10**9 // 160, (10,), "cpu")
    with pytest.raises(InputError, match=r"batch_size: 6250001 .* at most 6,250,000$"):
        sizes.require_batch("batch_size", 10**9 // 160 + 1, (10,), "cpu")


def test_samples_of_a_run_and_comparisons(here, capsys):
    assert main(["train", *FAST, "run=run"]) == 0
    with pytest.raises(InputError, match=r"n: 200000000 needs at least 1.6 GB"):
        runs.load("run").sample(200_000_000, steps=2)
    capsys.readouterr()
    for command in (["sample", "n=100000000000000"], ["compare", "seeds=1000000000"]):
        assert main([*command, "run=run"]) == 2
        assert "at most" in capsys.readouterr().err
    assert not list(Path("runs").glob("*"))


def test_limits_are_said_only_to_those_who_pass_them():
    with pytest.raises(InputError, match=r"^batch_size: 0 is not allowed; give an integer >= 1$"):
        Trainer(batch_size=0)
    with pytest.raises(InputError, match=r"^batch_size: 1000000000000000 is not allowed; give at most [\d,]+, which"):
        Trainer(batch_size=10**15)
    with pytest.raises(InputError, match=r"^steps: 1000000000000000 is not allowed; give at most"):
        Sampler(steps=10**15)
    with pytest.raises(InputError, match=r"give at most"):
        require_allowed("widths", [1, 10**15], tuple[Count, ...])
    Trainer(batch_size=10**6, steps=10**9)


def test_sizes_in_words():
    assert [room.in_words(s) for s in (5, 1e3, 3.21e9, 1e30)] == ["5 B", "1 kB", "3.21 GB", "1e+09 ZB"]
