"""Several processes, by torch.distributed, each of which ends when another one is lost."""

import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from scoresde.errors import one_line
from scoresde.parallel.alone import Gone, World

_BEAT, _DEAD = 2.0, 12.0  # seconds between the signs of life of a process, and without any, after which it is dead
_GRACE = 5.0  # seconds for a process to end by itself when another one has said why
_LONGEST_NAP = 0.1  # seconds between two looks for what another process has done


@dataclass(eq=False)
class Group(World):
    """Several processes, by torch.distributed.

    A thread gives signs of life and looks for those of others: process 0 watches all, and all watch process 0. So the
    death of one ends all within 30 s, even where an exchange does not notice it; and a process may take its time, to
    compile or to save.

    Args:
        store: of torch.distributed, to which all are connected.
    """

    store: Any = None
    _buffers: dict[Any, Any] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _left: threading.Event = field(default_factory=threading.Event)
    _heard: bool = False  # that another process has said how all end
    _lost: int = 0  # processes

    def __post_init__(self) -> None:
        self.store.set(f"beat-{self.rank}", "0")
        threading.Thread(target=self._watch, args=(self.store.clone(),), daemon=True).start()
        self.meet()

    def sum(self, flat: Any, beside: Any) -> tuple[Any, Any]:
        import torch
        from torch import distributed as dist

        with self.together():
            gathered, waiting = self._gathered(self._sendable(beside), later=True)
            over = -len(flat) % self.size
            own = self._sendable(torch.nn.functional.pad(flat, (0, over)) if over else flat)
            rows = self._buffers.get((own.shape, own.dtype))
            if rows is None:  # new memory in each step would cost as much as the sum
                rows = self._buffers[own.shape, own.dtype] = torch.empty_like(own)
            dist.all_to_all_single(rows, own)  # each process adds the terms of one part of the sum ...
            rows = rows.view(self.size, -1)
            while len(rows) > 1:
                rows = rows[: len(rows) // 2].add_(rows[len(rows) // 2 :])
            total, _ = self._gathered(rows[0], own)  # ... and all get all parts
            waiting.wait()
        return total.view(-1)[: len(flat)].to(flat.device), gathered.to(beside.device)

    def gather(self, rows: Any) -> Any:
        with self.together():
            every, _ = self._gathered(self._sendable(rows.contiguous()))
        return every.transpose(0, 1).reshape(-1, *rows.shape[1:]).to(rows.device)

    @staticmethod
    def _gathered(own: Any, out: Any = None, later: bool = False) -> tuple[Any, Any]:
        """The tensors of all processes (size, ...), perhaps in `out`, and what to wait for if they come later."""
        from torch import distributed as dist

        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name up to torch 2.12
        every = own.new_empty(dist.get_world_size(), *own.shape) if out is None else out
        return every, gather(every.view(-1), own.view(-1), async_op=later)

    def share(self, value: Any = None) -> Any:
        with self.together():
            key = self._numbered("share")
            if self.first:
                self.store.set(key, json.dumps(value))
            self._wait(key)
            return json.loads(self.store.get(key))

    def pass_on(self, own: bytes, rank: int) -> bytes:
        import torch
        from torch import distributed as dist

        key = self._numbered("part")
        if mine := self.rank == rank:
            self.store.set(key, str(len(own)))
        self.meet()  # since no handler of a signal runs in an exchange that another process never enters
        with self.together():
            size = int(self.store.get(key))
            block = torch.frombuffer(bytearray(own if mine else size), dtype=torch.uint8)
            if "cpu:" not in dist.get_backend_config():  # of a program that began with nccl alone
                block = block.to(f"cuda:{self.local}")
            dist.broadcast(block, rank)
        return own if mine else block.cpu().numpy().tobytes()

    def meet(self) -> None:
        with self.together():
            key = self._numbered("meeting")
            if self.store.add(f"{key} of", 1) == self.size:
                self.store.set(key, "")
            self._wait(key)

    def speaks(self) -> bool:
        try:
            return not self._heard and bool(self.store.add("said", 1) == 1)
        except RuntimeError:  # it ended with process 0
            return self.rank == 1

    def leave(self, failed: bool = False) -> None:
        if self._left.is_set():
            return
        if self.first or failed:
            self._left.set()
        with suppress(RuntimeError):
            if self.first:
                self.store.set("over", "")
                self.store.add("left", 1)
                end = time.monotonic() + _BEAT + _GRACE  # the store may end with this process
                while self.store.add("left", 0) + self._lost < self.size and time.monotonic() < end:
                    time.sleep(_LONGEST_NAP)
            else:
                if not failed:
                    self._wait("over", leaving=True)
                self.store.add("left", 1)
        self._left.set()

    def _sendable(self, tensor: Any) -> Any:
        """A tensor where torch.distributed takes it."""
        return tensor if self.own_device else tensor.cpu()

    def _numbered(self, what: str) -> str:
        self._counts[what] = self._counts.get(what, 0) + 1
        return f"{what} {self._counts[what]}"

    def _wait(self, key: str, leaving: bool = False) -> None:
        """Wait for a key of the store, unless another process ends all; Python's handlers of signals run meanwhile."""
        nap = 1e-4
        while not self.store.check([key]):
            if self._heard and not leaving:
                raise Gone("parallel: another process has ended")
            time.sleep(nap := min(1.25 * nap, _LONGEST_NAP))

    @contextmanager
    def together(self, computing: bool = False) -> Iterator[None]:
        from torch import distributed as dist

        try:
            yield
        except RuntimeError as error:
            if computing and not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            raise Gone(f"parallel: another process is lost ({one_line(error):.100})") from error

    def _watch(self, store: Any) -> None:
        """Give signs of life, and end this process if another one is dead or has said how all end."""
        watched = range(1, self.size) if self.first else range(1)
        keys, seen, said = [f"beat-{rank}" for rank in watched], [b""] * len(watched), 0.0
        since: dict[int, float] = {}
        self._wait_in(store, keys)  # a program of the user may call the processes one after another
        for beat in itertools.count(1):
            if self._left.wait(_BEAT):
                return
            now, beats = time.monotonic(), seen
            try:
                store.set(f"beat-{self.rank}", str(beat))
                beats, over = store.multi_get(keys), store.check(["said"])
            except RuntimeError:  # process 0 held it, and is gone
                over = True
            since = {r: now if old != new else since[r] for r, old, new in zip(watched, seen, beats, strict=True)}
            seen, dead = beats, [r for r, last in since.items() if now - last > _DEAD]
            self._lost = len(dead)
            self._say_lost(dead, store)
            said = said or (now if over or dead else 0.0)
            self._heard = bool(said)
            if said and now - said > _GRACE:  # another one has left this process alone in an exchange
                with suppress(RuntimeError):
                    store.add("left", 1)
                os._exit(1)

    @staticmethod
    def _wait_in(store: Any, keys: list[str]) -> None:
        while not store.check(keys):
            time.sleep(_LONGEST_NAP)

    def _say_lost(self, dead: list[int], store: Any) -> None:
        if dead:
            self.store = store  # the other one is taken while processes connect
        if dead and self.speaks():
            line = f"error: parallel: process {dead[0]} of {self.size} is lost"
            print("; ".join(filter(None, [line, self.hint])), file=sys.__stderr__, flush=True)
