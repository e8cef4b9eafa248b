"""Freed memory is kept by commands, on Linux with glibc, unless the user has set malloc."""

import ctypes
import platform
import resource
import sys

import numpy as np
import pytest

from scoresde.cli import allocator, jobs
from scoresde.cli.main import main


def faults():
    """Pages that the system hands out while 32 MiB are taken and freed again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(2**20) for _ in range(4)]
    arrays.clear()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_that_was_freed_is_taken_again_without_the_system(monkeypatch):
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert allocator.keep_freed_memory()
    faults()
    assert faults() < 100


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_settings_of_the_user_are_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    monkeypatch.delattr(ctypes, "CDLL")
    assert not allocator.keep_freed_memory()


@pytest.mark.parametrize("system", ["darwin", "win32", "linux"])
def test_nothing_happens_without_glibc(monkeypatch, system):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # which has no mallopt
    assert not allocator.keep_freed_memory()


def test_every_command_asks_for_it(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(jobs, "keep_freed_memory", lambda: called.append(True))
    assert main(["list", f"folder={tmp_path}"]) == 0
    assert called == [True]
