"""SIGKILL of a sweep of six tiny jobs at random moments, gone on with each time: what is left at the end?

    python benchmarks/campaigns/sweep_killed.py 20 [--seed 0]

The sweep is a process of its own, killed each time at a moment that is uniform over the time of an undisturbed one, and
called again with the same words. Then every job's folder must be bit-identical to that of an undisturbed sweep, times
and names of folders aside, and nothing else may be left.
"""

import argparse
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from trials import cheap, content, difference, forked

from scoresde.cli import collect_run
from scoresde.cli.main import main
from scoresde.sweeps import record

SWEEP = ["train", "-m", "seed=0,1,2", "sde=vp,ve", "debug=tiny", "model=mlp", "model.net.width=4", "data=array"]
SWEEP += ["data.path=t.npy", "logger=none", "n=6", "trainer.steps=6", "trainer.checkpoint_every=2"]
SWEEP += ["~samplers.predictor_corrector", "~samplers.dopri5"]
LEFT = {".lock", "jobs", "multirun.yaml", "sweep.json", "table.csv", "table.json"}


def call() -> None:
    """The sweep, without the wait for the disk and figures."""
    with cheap():
        collect_run._drawn = lambda *arguments: []  # type: ignore[assignment]
        assert main(SWEEP) == 0


def ended(sweep: Path) -> dict[str, Any]:
    """What is known of each job, and every file in its folder, by both names."""
    found = {}
    for job in record.jobs(sweep):
        folder, words = sweep / (job.folder or ""), " ".join(job.overrides)
        found[words] = (job.state, job.value)
        found |= {f"{words}: {name}": untitled(value) for name, value in content(folder).items()}
        found[f"{words}: config.yaml"] = yaml.safe_load((folder / "config.yaml").read_text())
    return found


def untitled(value: Any) -> Any:
    """Without the title of results, which is the name of the folder."""
    if isinstance(value, dict):
        return {key: untitled(one) for key, one in value.items() if key != "title"}
    return [untitled(one) for one in value] if isinstance(value, list) else value


def leftovers(sweep: Path) -> set[str]:
    """Names in the folder of a sweep, and of its records, that belong to none of its jobs."""
    jobs = record.jobs(sweep)
    names = {path.name for path in sweep.iterdir()} - LEFT - {str(job.folder) for job in jobs}
    records = {f"{job.fingerprint}{end}" for job in jobs for end in (".json", ".lock")}
    return names | {path.name for path in (sweep / "jobs").iterdir()} - records


def campaign(kills: int, seed: int = 0) -> tuple[int, list[str]]:
    """How often the sweep was killed before its end, and what was not as it should be, a line each."""
    np.save("t.npy", np.random.default_rng(0).normal(size=(40, 2)))
    begun = time.perf_counter()
    code, said = forked(call)
    assert code == 0, said
    seconds = time.perf_counter() - begun
    (whole,) = Path("runs").iterdir()
    expected = ended(whole)
    whole.rename("whole")
    moments, killed = random.Random(seed), 0
    for _ in range(kills):
        code, said = forked(call, moments.uniform(0, seconds / 2))
        killed += code != 0
    code, said = forked(call)
    (sweep,) = Path("runs").iterdir()
    wrong = [said] if code else []
    wrong += filter(None, [difference(ended(sweep), expected)])
    wrong += [f"left over: {name}" for name in leftovers(sweep)]
    return killed, wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        killed, wrong = campaign(arguments.kills, arguments.seed)
        os.chdir("/")
    print(f"{killed} of {arguments.kills} calls killed; wrong: {len(wrong)}", *wrong, sep="\n")
