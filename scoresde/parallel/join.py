"""Where a process is among others, by the environment of torchrun or srun, and how they find each other."""

import atexit
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple

from scoresde.errors import InputError, one_line, refuse
from scoresde.parallel.alone import World

_JOIN = 60.0  # seconds within which all processes must have begun
_ANSWER = 10.0  # seconds within which process 0 answers, once it has
_STUCK = 3600.0  # of one exchange: a process may compile, or write to a slow disk
_NAP = 0.1
_LAST_PORT = 65_535


class _Place(NamedTuple):
    """Where a process is: its rank, their number, its rank on its machine, and their number there."""

    rank: int
    size: int
    local: int
    local_size: int


def _place(env: Mapping[str, str]) -> _Place:
    """What torchrun or srun says of this process."""
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= env.keys():
        rank, size = int(env["RANK"]), int(env["WORLD_SIZE"])
        return _Place(rank, size, int(env.get("LOCAL_RANK", rank)), int(env.get("LOCAL_WORLD_SIZE", size)))
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # set by srun, not by sbatch, whose script is one process
        here = int(re.match(r"\d+", env.get("SLURM_STEP_TASKS_PER_NODE", "1"))[0])  # type: ignore[index]
        return _Place(int(env["SLURM_PROCID"]), int(env["SLURM_STEP_NUM_TASKS"]), int(env["SLURM_LOCALID"]), here)
    return _Place(0, 1, 0, 1)


def _meeting_point(env: Mapping[str, str]) -> tuple[str, int]:
    """Address and port of process 0; under Slurm the first machine of the step, and a port of its own for each job."""
    name, first = re.match(r"([^,\[]*)\[?([^],-]*)", env.get("SLURM_STEP_NODELIST", "")).groups()  # type: ignore[union-attr]
    port = env.get("MASTER_PORT", str(20_000 + int(env.get("SLURM_JOB_ID", 0)) % 20_000))
    fine = port.isdecimal() and int(port) <= _LAST_PORT
    refuse(not fine, f"parallel: MASTER_PORT: {port!r} is not a port; give a number from 1 to {_LAST_PORT}")
    return env.get("MASTER_ADDR", name + first), int(port)


@cache
def world() -> World:
    """The processes to which this one belongs, by the environment of torchrun or srun; itself alone without either.

    Raises:
        InputError: their number is not a power of two, or they do not find each other.
    """
    place = _place(os.environ)
    return World() if place.size == 1 else _joined(place, *_meeting_point(os.environ))


def joined() -> World:
    """What `world` has found; this process alone as long as nobody has asked."""
    return world() if world.cache_info().currsize else World()


def _joined(place: _Place, address: str, port: int) -> World:
    """The group of a process, when all are there."""
    rank, size = place.rank, place.size
    if size & (size - 1):
        if rank:
            raise SystemExit(2)  # process 0 says why
        raise InputError(f"parallel: {size} processes are not a power of two; start {2 ** (size.bit_length() - 1)}")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or a lost process is a page of its own
    import torch
    from torch import distributed as dist

    from scoresde.parallel.group import Group

    own_device = place.local_size <= torch.cuda.device_count()
    own = not dist.is_initialized()  # else by the program of the user
    store = _connected(dist, rank, size, address, port) if own else dist.distributed_c10d._get_default_store()
    group = Group(rank, size, place.local, own_device, store=store)
    if own:
        if own_device:
            torch.cuda.set_device(place.local)
        backend, limit = "cpu:gloo,cuda:nccl" if own_device else "gloo", timedelta(seconds=_STUCK)
        with group.together():  # which may wait for one that is lost
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
    atexit.register(lambda: group.leave(failed=getattr(sys, "last_value", None) is not None))
    return group


def _connected(dist: Any, rank: int, size: int, address: str, port: int) -> Any:
    """A store to which all processes are connected."""
    host = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"  # else torchrun is the host
    end, wanted = time.monotonic() + _JOIN, "give MASTER_ADDR and MASTER_PORT of process 0"
    limit = timedelta(seconds=_ANSWER)
    try:
        if not host:
            _await_first(address, port, end)
        store = dist.TCPStore(address, port, size, host, limit, wait_for_workers=False, multi_tenant=True)
        store.set_timeout(timedelta(seconds=_JOIN))
        store.set(f"beat-{rank}", "0")  # the first of `Group`, so that all are watched once all have joined
        here = store.add("joined", 1)
        while here < size and time.monotonic() < end:
            time.sleep(_NAP)
            here = store.add("joined", 0)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"parallel: {address}:{port} cannot be reached ({one_line(error):.100}); {wanted}") from None
    refuse(here < size, f"parallel: {here} of {size} processes came to {address}:{port} in {_JOIN:.0f} s; {wanted}")
    return store


def _await_first(address: str, port: int, end: float) -> None:
    """Wait until process 0 listens; torch would wait for twice its limit, and say so on a page."""
    while True:
        try:
            return socket.create_connection((address, port), _ANSWER).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(_NAP)
