"""Damaged files of a run folder, disks that refuse a write, and folders that move: refused in one line, or harmless?

    python benchmarks/campaigns/corrupted.py 1000

So many flipped bits and 6 % as many cuts over all files of a checkpoint, a fifth as many flipped bits over all other
files of the run, a disk that is full, read-only or forbidden from each write on, a clock that jumps back, and a folder
that is moved, copied or deleted in the middle. `refused`: one line and exit status 2. `harmless`: the training that
goes on ends in the same bits, times and speeds aside. `said`: it does, with a line about the damage, and the damaged
checkpoint lies aside. Pictures are left out. `silent`: anything else.
"""

import argparse
import copy
import errno
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from trials import STEPS, cheap, content, difference, forked, train
from watch import watched

from scoresde import InputError
from scoresde.data.memory import FILE, SavedDataset
from scoresde.training import checkpoint as checkpoints

KIND = "averages, snapshots"
MORE = 8  # steps, to which a training goes on
ERRORS = (errno.ENOSPC, errno.EROFS, errno.EACCES)


@contextmanager
def changed(file: Path, how: Callable[[bytearray], None]) -> Iterator[None]:
    """A file with other bytes within the block."""
    before = file.read_bytes()
    damaged = bytearray(before)
    how(damaged)
    file.write_bytes(damaged)
    try:
        yield
    finally:
        file.write_bytes(before)


def flip(at: int) -> Callable[[bytearray], None]:
    """Flip one bit, counted from the first of the file."""

    def act(content: bytearray) -> None:
        content[at // 8] ^= 1 << at % 8

    return act


def cut(at: int) -> Callable[[bytearray], None]:
    """Leave so many bytes."""

    def act(content: bytearray) -> None:
        del content[at:]

    return act


class Campaign:
    """A finished run, what it ends in after more steps, and counts of what became of damages, by where they were."""

    def __init__(self, place: Path) -> None:
        self.place, self.counts, self.silent = place, Counter[tuple[str, str]](), list[str]()
        self.finished = place / "finished"
        self.finished.mkdir()
        train(KIND, self.finished)
        self.expected = self._content(self._copy("more"), MORE)
        self.whole = content(self.finished)

    def _copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.finished, self.place / name))

    def _content(self, place: Path, steps: int) -> dict[str, Any]:
        code, said = self._train(place, steps)
        assert code == 0, said
        return content(place)

    def _train(self, place: Path, steps: int, about: Any = None) -> tuple[int, str]:
        def act() -> None:
            with about or nullcontext():
                train(KIND, place, steps=steps)

        code, said = forked(act)
        return code, "\n".join(line for line in said.splitlines() if not line.startswith("warning: "))

    def _note(self, where: str, what: str, about: str = "") -> None:
        self.counts[where, what] += 1
        if what == "silent":
            self.silent.append(f"{where}: {about}")

    def checkpoint(self, where: str, count: int, how: Callable[[int], Callable[[bytearray], None]], seed: int) -> None:
        """Damage the files of the last checkpoint, each equally often, and read it."""
        path, chance = checkpoints.at_step(self.finished / "run", STEPS), random.Random(seed)
        files, right = sorted(path.iterdir()), copy.deepcopy(checkpoints.read(path))  # which maps the files
        for k in range(count):
            file = files[k % len(files)]
            size = file.stat().st_size
            at = chance.randrange(8 * size if how is flip else size)
            with changed(file, how(at)):
                try:
                    found = checkpoints.read(path)
                except InputError as error:
                    what = "silent" if "\n" in str(error) else "refused"
                else:
                    what = "harmless" if _same(found, right) else "silent"
            self._note(where, what, f"{file.name} at {at}")

    def others(self, where: str, count: int, seed: int) -> None:
        """Damage all files of the run but those of its last checkpoint, each equally often, and go on."""
        chance, last = random.Random(seed), checkpoints.at_step(Path("run"), STEPS)
        names = [p.relative_to(self.finished) for p in sorted(self.finished.rglob("*")) if p.is_file()]
        names = [name for name in names if last not in name.parents and (self.finished / name).stat().st_size]
        names = [name for name in names if name.parent.name != "samples"]  # pictures, which no program reads
        for k in range(count):
            place = self._copy(f"other-{k}")
            file = place / names[k % len(names)]
            at = chance.randrange(8 * file.stat().st_size)
            content_ = bytearray(file.read_bytes())
            flip(at)(content_)
            file.write_bytes(content_)
            self._judge(where, place, MORE, self.expected, f"bit {at}", damaged=str(names[k % len(names)]))

    def _judge(
        self, where: str, place: Path, steps: int, expected: dict[str, Any], about: str = "", with_: Any = None,
        damaged: str = "",
    ) -> None:  # fmt: skip
        """Go on, and note what becomes of it."""
        code, said = self._train(place, steps, with_)
        file = place / damaged
        if code == 2 and said.count("\n") == 0 and said:
            self._note(where, "refused")
        elif code == 0:
            wrong = difference(content(place), expected)
            if wrong == damaged and _told(file, self.finished / damaged):
                self._note(where, "refused")  # by whoever reads it
            else:
                told = not wrong or (wrong == damaged and "was changed since" in said)
                what = "silent" if not told else "said" if said else "harmless"
                self._note(where, what, f"{damaged} {about}: {wrong} {said}")
        else:
            self._note(where, "silent", f"{about}: ended with {code}: {said[-300:]}")
        shutil.rmtree(place, ignore_errors=True)

    def refusing(self, every: int) -> None:
        """A disk that refuses each change from one on, in one line; then it works again, and the training goes on."""
        for k in range(1, 10_000, every):
            place, number = self.place / f"refused-{k}", ERRORS[k // every % len(ERRORS)]
            place.mkdir()
            refused = place.parent / f"refused-{k}.txt"

            def refuse(event: str, path: Path, number: int = number, note: Path = refused) -> None:
                if event not in ("os.remove", "os.rmdir"):
                    note.touch()
                    raise OSError(number, os.strerror(number), str(path))

            code, said = self._train(place, STEPS, watched(place, k, refuse, writes=True))
            if not refused.exists() and code == 0:
                return
            where = "disk refuses"
            if code == 0:
                self._note(where, "silent", f"change {k} is not done, without a word")
            elif code != 2 or said.count("\n") or os.strerror(number) not in said:
                self._note(where, "silent", f"change {k}: ended with {code}: {said[-300:]}")
            elif left := [p.name for p in place.rglob(".*") if p.name != ".lock"]:
                self._note(where, "silent", f"change {k} leaves {left}")
            else:
                self._judge("goes on after that", place, STEPS, self.whole, f"change {k}")
                self._note(where, "refused")

    def clock(self, count: int) -> None:
        """The clock is a day behind when a training goes on."""
        for k in range(count):
            back = mock.patch("time.time", return_value=time.time() - 86400)
            self._judge("clock jumps back", self._copy(f"clock-{k}"), MORE, self.expected, with_=back)

    def moving(self, how: str, every: int) -> None:
        """The folder of the run is moved, copied or deleted before a write; what is elsewhere then goes on."""
        for k in range(1, 10_000, every):
            place, other = self.place / f"{how}-{k}", self.place / f"{how}-{k}-other"
            for folder in (place, other):
                folder.mkdir()

            def act(event: str, path: Path, place: Path = place, other: Path = other) -> None:
                if (place / "run").is_dir() and not (other / "done").exists():
                    (other / "done").mkdir()
                    if how == "copied":
                        shutil.copytree(place / "run", other / "run")
                    else:
                        (place / "run").rename(other / "run")

            code, said = self._train(place, STEPS, watched(place, k, act, writes=True))
            if not (other / "done").exists():
                return
            (other / "done").rmdir()
            where = f"folder {how}"
            if how == "copied":
                same = code == 0 and not difference(content(place), self.whole)
                self._note("original of a copy", "harmless" if same else "silent", f"{k}: {said}")
            else:
                one_line = code == 2 and "\n" not in said
                back = [p.name for p in place.rglob("*")]
                self._note(where, "refused" if one_line and not back else "silent", f"{k}: {code} {said[-200:]} {back}")
            if how != "deleted":
                self._judge(f"goes on, {how}", other, STEPS, self.whole, str(k))

    def table(self) -> str:
        """A line for each place of damage, and what was silent."""
        results = ("refused", "said", "harmless", "silent")
        lines = [f"{'damage':<30}" + "".join(f"{name:>10}" for name in results)]
        for where in dict.fromkeys(where for where, _ in self.counts):
            lines.append(f"{where:<30}" + "".join(f"{self.counts[where, name]:>10}" for name in results))
        return "\n".join([*lines, *self.silent])


def _told(file: Path, right: Path) -> bool:
    """Whether who reads a damaged file that a training does not need is told, or gets what is right."""
    if file.name == FILE:
        try:
            return torch.equal(*(SavedDataset(path.parent).load().train for path in (file, right)))
        except InputError as error:
            return "\n" not in str(error)
    return file.parent.parent.name == "checkpoints" and checkpoints.damage(file.parent) is not None


def _same(one: Any, other: Any) -> bool:
    """Whether two checkpoints are equal to the bit."""
    if one.state != other.state or one.modules.keys() != other.modules.keys():
        return False
    pairs = [(one.optimizer, other.optimizer), *((one.modules[k], other.modules[k]) for k in one.modules)]
    return all(a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in pairs)


def campaign(count: int, every: int, place: Path) -> Campaign:
    """All damages; `every` so many writes those of disks and folders."""
    one = Campaign(place)
    one.checkpoint("bit of a checkpoint", count, flip, 0)
    one.checkpoint("cut of a checkpoint", max(1, round(0.06 * count)), cut, 1)
    one.others("bit of another file", max(1, count // 5), 2)
    one.refusing(every)
    one.clock(1)
    for how in ("moved", "copied", "deleted"):
        one.moving(how, 4 * every)
    return one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="bits of a checkpoint to flip")
    parser.add_argument("--every", type=int, default=1, help="refuse every so many writes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, cheap():
        print(campaign(given.count, given.every, Path(place)).table())


if __name__ == "__main__":
    main()
