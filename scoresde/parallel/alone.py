"""What a program asks of the processes to which it belongs, answered for one alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scoresde.errors import InputError, refuse


class Gone(InputError):
    """Another process has ended, in an exchange with which this one cannot go on."""


@dataclass(eq=False)
class World:
    """The processes of one training: here one alone; `Group` is that of several.

    Args:
        rank: the number of this process, from 0.
        size: how many there are, a power of two.
        local: the number of this process among those of its machine.
        own_device: each process of a machine can have a CUDA device of its own.

    Attributes:
        hint: what to say besides at an end that nobody asked for.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    own_device: bool = False
    hint: str = ""

    @property
    def first(self) -> bool:
        """Whether this process prints, logs, saves and draws."""
        return self.rank == 0

    def rows(self, count: int, begin: int = 0) -> range:
        """Those of `count` rows from `begin` on that this process works on: every `size`-th one."""
        return range(begin + self.rank, begin + count, self.size)

    def sum(self, flat: Any, beside: Any) -> tuple[Any, Any]:
        """Sum a tensor (n,) over the processes, and gather another one in the same exchange.

        Processes r and r + size/2 are added first, then r and r + size/4, ..., at last 0 and 1: the upper levels of a
        binary tree over any number of such terms, of which process r has added those of number r modulo size.

        Args:
            flat: (n,), on the device of this process; its memory is used.
            beside: float64 (m,).

        Returns:
            The sum (n,), the same bits in every process, and (size, m).
        """
        return flat, beside[None]

    def gather(self, rows: Any) -> Any:
        """All rows (size n, ...) in order, of which each process has computed its own (n, ...), see `rows`."""
        return rows

    def share(self, value: Any = None) -> Any:
        """The value of the first process, of types that JSON has, for which the others wait."""
        return value

    def pass_on(self, own: bytes, rank: int) -> bytes:
        """What the process of this rank has given as its own."""
        return own

    def meet(self) -> None:
        """Wait until all processes are here."""

    @contextmanager
    def together(self, computing: bool = False) -> Iterator[None]:
        """A context in which errors mean that another process is gone; those of exchanges only, where it computes."""
        yield

    def speaks(self) -> bool:
        """Whether this process says how all end: the first one that asks does, once."""
        return True

    def leave(self, failed: bool = False) -> None:
        """End; what has not failed waits for the first process to end."""

    def same(self, what: str, value: Any) -> None:
        """Refuse to go on unless a value is that of the first process."""
        theirs, wanted = self.share(value), "start all with the same command on the same files"
        refuse(theirs != value, f"{what}: {value!r} in process {self.rank}, but {theirs!r} in process 0; {wanted}")
