"""One thread and float64 by default: results that do not depend on the machine, and room for tight bounds."""

import atexit
import os
import shutil
import tempfile

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("MPLBACKEND", "Agg")
# Nothing is left in the user's caches, and nothing is fetched.
for variable in ("SCORESDE_CACHE", "HF_HOME"):
    os.environ[variable] = tempfile.mkdtemp(prefix="scoresde-tests-")
    atexit.register(shutil.rmtree, os.environ[variable], ignore_errors=True)
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hydra._internal.hydra import Hydra  # noqa: E402

from scoresde.figures import fields, style  # noqa: E402
from scoresde.workflows import enough  # noqa: E402

enough.USUAL = ()  # the pilots at the end of a training take seconds; test_enough.py has one
_LAYOUT, _DENSITY = style._LAYOUT, fields._DENSITY
style._LAYOUT, fields._DENSITY = "none", 0.1  # half of the time of a tiny training; test_figures.py has them
# Hydra composes all that it runs once more, for hydra.mode alone, which nothing here sets
Hydra.get_mode = lambda self, config_name, overrides: None  # type: ignore[method-assign]

torch.set_num_threads(1)
hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow
hypothesis.settings.load_profile("any machine")


@pytest.fixture
def whole_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures as users see them."""
    monkeypatch.setattr(style, "_LAYOUT", _LAYOUT)
    monkeypatch.setattr(fields, "_DENSITY", _DENSITY)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own with a small table, t.npy."""
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", np.random.default_rng(0).normal(size=(60, 2)))
    return tmp_path
