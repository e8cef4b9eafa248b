"""SIGKILL at random moments of tiny calls, and before each of their writes: what do they end in after going on?

    python benchmarks/campaigns/killed.py 100 [--every 1] [--first 1] [--kinds plain,muon,sample]

Each trial is a process of its own, killed once, after which the same call goes on to the end. Everything in the folder
must then be bit-identical to that of an undisturbed call, times and speeds aside, with no leftovers: of a training
weights, averages, optimizer, history, samples, metrics.jsonl, summary.json; of sample, compare, tune and evaluate on a
run all that they write. Pictures are replaced by a line of text. Of two processes one is killed, the other, or both.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from calls import prepared
from trials import KINDS, TOGETHER, call, cheap, content, difference, forked, train
from watch import watched

from scoresde.cli.main import main as scoresde

COMMANDS = {
    "sample": ["run=run", "n=24", "batch_size=4", "sampler.steps=4", "out=out"],
    "evaluate": ["run=run", "n=24", "batch_size=4", "sampler.steps=3", "metrics=[distances]", "logger=none", "out=out"],
    "compare": [
        "problem=mixture_2d", "solvers=[ddim,euler_maruyama]", "budgets=[4]", "n=20", "seeds=2", "reference.n=0",
        "logger=none", "out=out",
    ],
    "tune": ["run=run", "sampler.steps=3", "tune.n=16", "tune.iterations=2", "tune.fine=10"],
}  # fmt: skip


@dataclass
class Count:
    """The trials of one kind of call.

    Attributes:
        kind: of training, or the command.
        writes: changes of the folder that it makes.
        trials: number of calls that were to be killed.
        killed: of these, by the signal; others had ended before.
        wrong: what was not as it should be, a line each.
    """

    kind: str
    writes: int = 0
    trials: int = 0
    killed: int = 0
    wrong: list[str] = field(default_factory=list)


def _kill(event: str, path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def act(kind: str, place: Path) -> None:
    """A call of this kind that begins or goes on in a folder."""
    if kind in KINDS:
        return call(kind, place)
    with contextlib.chdir(place):
        if code := scoresde([kind, *COMMANDS[kind]]):
            sys.stderr.flush()
            os._exit(code)


class Campaign:
    """Calls of one kind that are killed and go on, each in a folder of its own below `place`."""

    def __init__(self, kind: str, place: Path) -> None:
        self.place, self.count = place / kind.replace(", ", "-").replace(" ", "-"), Count(kind)
        self.place.mkdir()
        self.run: Path | None = None
        if kind in KINDS:  # imports what all children share
            train("plain" if kind in TOGETHER else kind, self._new("warm"))
        else:
            with prepared(self.place / "made"):
                self.run = Path("run").absolute()
        begun = time.perf_counter()
        self.expected = self._ended(self._new("whole"))
        self.seconds = time.perf_counter() - begun
        seen = self._new("seen")
        reading, writing = os.pipe()

        def counted() -> None:
            with watched(seen, writes=True) as watch:
                act(kind, seen)
            os.write(writing, str(watch.count).encode())

        code, said = forked(counted)
        assert code == 0, said
        self.count.writes = int(os.read(reading, 20))
        wrong = difference(content(seen), self.expected)
        assert not wrong, f"two undisturbed calls differ: {wrong}"

    def _new(self, name: str) -> Path:
        place = self.place / name
        place.mkdir()
        if self.run is not None:
            shutil.copytree(self.run, place / "run")
        return place

    def _ended(self, place: Path) -> dict[str, Any]:
        code, said = forked(lambda: act(self.count.kind, place))
        assert code == 0, said
        return content(place)

    def at_random(self, trials: int, seed: int = 0) -> None:
        """Kill at moments that are uniform over the time of a call."""
        moments = random.Random(f"{self.count.kind} {seed}")
        for k in range(trials):
            moment = moments.uniform(0, 1.05 * self.seconds)
            name = f"random-{k}"
            self._trial(f"after {1000 * moment:.0f} ms", name, lambda place: act(self.count.kind, place), moment)

    def at_writes(self, every: int, first: int = 1) -> None:
        """Kill before each write, or every so many."""
        for k in range(first, self.count.writes + 1, every):

            def act_until(place: Path, k: int = k) -> None:
                with watched(place, k, _kill, writes=True):
                    act(self.count.kind, place)

            self._trial(f"before write {k}", f"write-{k}", act_until)

    def _trial(self, what: str, name: str, begin: Callable[[Path], None], moment: float | None = None) -> None:
        place = self._new(name)
        code, said = forked(lambda: begin(place), moment)
        killed = code == -signal.SIGKILL or (self.count.kind in TOGETHER and code != 0 and "Traceback" not in said)
        self.count.trials += 1
        self.count.killed += killed
        wrong = "" if killed or code == 0 else f"ended with {code}: {said[-300:]}"
        if not wrong:
            code, said = forked(lambda: act(self.count.kind, place))
            wrong = f"goes on with {code}: {said[-300:]}" if code else difference(content(place), self.expected)
        if wrong:
            self.count.wrong.append(f"{self.count.kind}, killed {what}: {wrong}")
        else:
            shutil.rmtree(place)


def campaign(trials: int, every: int, kinds: Sequence[str], place: Path, first: int = 1) -> list[Count]:
    """Both kinds of kills for each kind of call; `every` 0 leaves out those at writes."""
    counts: list[Count] = []
    for kind in kinds:
        one = Campaign(kind, place)
        one.at_random(trials)
        if every:
            one.at_writes(every, 1 + (first - 1 + len(counts)) % every)
        counts.append(one.count)
        print(f"{kind}: {one.count.trials} trials, {len(one.count.wrong)} wrong", file=sys.stderr)
    return counts


def table(counts: Sequence[Count]) -> str:
    """A line for each kind, and what was wrong."""
    lines = [f"{'call':<24}{'writes':>8}{'trials':>8}{'killed':>8}{'wrong':>7}"]
    lines += [f"{c.kind:<24}{c.writes:>8}{c.trials:>8}{c.killed:>8}{len(c.wrong):>7}" for c in counts]
    return "\n".join([*lines, *(line for c in counts for line in c.wrong)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=int, help="random moments for each kind of call")
    parser.add_argument("--every", type=int, default=1, help="kill before every so many writes; 0 for none")
    parser.add_argument("--first", type=int, default=1, help="of these writes, in the first kind")
    parser.add_argument("--kinds", default=",".join([*KINDS, *COMMANDS]).replace(", ", "+"), help="such as plain,muon")
    given = parser.parse_args()
    torch.set_num_threads(1)
    kinds = [kind.replace("+", ", ") for kind in given.kinds.split(",")]
    with tempfile.TemporaryDirectory() as place, cheap():
        print(table(campaign(given.trials, given.every, kinds, Path(place), given.first)))


if __name__ == "__main__":
    main()
