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

import hypothesis  # noqa: E402
import torch  # noqa: E402

from scoresde.workflows import enough  # noqa: E402

enough.USUAL = ()  # the pilots at the end of a training take seconds; test_enough.py has one

torch.set_num_threads(1)
hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow
hypothesis.settings.load_profile("any machine")
