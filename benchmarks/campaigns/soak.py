"""Many tiny jobs in one process: do memory, open files, threads or temporary files grow?

    python benchmarks/campaigns/soak.py 200

In turn a training with its figures, the same resumed, samples, samples from Python, and a malformed call. What is held
is read after each round of these. The growth is that of the rounds after the first fifth, per job, with the 95 %
interval of a mean of independent differences between rounds.
"""

import argparse
import contextlib
import ctypes
import gc
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from calls import prepared
from scipy import stats

import scoresde
from scoresde.cli.main import main as scoresde_main

NAMES = ("memory (MB)", "open files", "threads", "temporary files")
TRAIN = ["train", "debug=tiny", "model=mlp", "model.net.width=8", "data=array", "data.path=t.npy", "logger=none", "n=6"]
TRAIN += ["trainer.checkpoint_every=2", "~samplers.predictor_corrector", "~samplers.dopri5", "run=made"]


def called(words: list[str], code: int = 0) -> None:
    with Path(os.devnull).open("w") as quiet, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        assert scoresde_main(words) == code, words


def train() -> None:
    shutil.rmtree("made", ignore_errors=True)
    called([*TRAIN, "trainer.steps=4"])


def sample() -> None:
    shutil.rmtree("drawn", ignore_errors=True)
    called(["sample", "run=made", "n=4", "sampler.steps=3", "sampler.path=true", "out=drawn"])


JOBS: dict[str, Callable[[], object]] = {
    "train": train,
    "resume": lambda: called(["train", "run=made", "trainer.steps=6"]),
    "sample": sample,
    "sample in Python": lambda: scoresde.load("made", device="cpu").sample(4, steps=3),
    "a mistake": lambda: called([*TRAIN, "sde.betamin=1"], 2),
}


def held() -> tuple[float, ...]:
    """What this process holds."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # what is free and not given back is not held
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    left = sum(1 for _ in Path(tempfile.gettempdir()).rglob("*"))
    counted = [len(os.listdir(f"/proc/self/{name}")) for name in ("fd", "task")]  # noqa: PTH208
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, *map(float, counted), float(left)


def soak(jobs: int) -> np.ndarray:
    """What is held after each round of jobs: (rounds, 4)."""
    rounds = []
    for _ in range(-(-jobs // len(JOBS))):
        for act in JOBS.values():
            act()
        rounds.append(held())
    return np.array(rounds)


def growth(rounds: np.ndarray) -> list[tuple[float, float]]:
    """For each of what is held, growth per job and half of its interval."""
    steps = np.diff(rounds[len(rounds) // 5 :], axis=0) / len(JOBS)
    half = stats.t.ppf(0.975, len(steps) - 1) * steps.std(0, ddof=1) / np.sqrt(len(steps))
    return list(zip(steps.mean(0).tolist(), half.tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", type=int, nargs="?", default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, prepared(Path(place, "here")):
        rounds = soak(given.jobs)
    print(f"{len(rounds) * len(JOBS)} jobs in one process: {', '.join(JOBS)}")
    print(f"{'held':<18}{'round 1':>10}{'a fifth':>10}{'at the end':>12}   growth per job")
    for name, one, (slope, half) in zip(NAMES, rounds.T, growth(rounds), strict=True):
        print(f"{name:<18}{one[0]:>10.1f}{one[len(one) // 5]:>10.1f}{one[-1]:>12.1f}   {slope:.4f} +- {half:.4f}")


if __name__ == "__main__":
    main()
