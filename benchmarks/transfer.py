"""What a tuning on one run is worth on another of the same data: `python benchmarks/transfer.py runs/A runs/B`.

`gain`: the mean distance of `auto` with its pilot grid to the second run's own ODE, over that of what was tuned on it,
as `tune` says it. `loss`: that of what was tuned on the first run, over that of what was tuned on the second, from
starts that neither saw. Both with 95 % intervals over resampled starts; and CPU seconds and evaluations of a tuning.
"""

import argparse
import time
from pathlib import Path

import torch
from record import save

from scoresde import load
from scoresde.tuning import tune
from scoresde.tuning.pilot import Pilot
from scoresde.tuning.tune import gain

_SEED = 1000  # of the starts that judge; the tunings have seed 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs=2, help="folders of trained runs")
    parser.add_argument("--steps", type=int, nargs="*", default=[5, 8, 10])
    parser.add_argument("--n", type=int, default=256, help="start points that judge")
    parser.add_argument("--out", type=Path, help="file of the result")
    a = parser.parse_args()
    torch.set_num_threads(1)
    first, second = (load(run) for run in a.runs)
    judge, rows = Pilot.of(second.model, second.event_shape, _SEED, range(a.n), 150), []
    for steps in a.steps:
        there = tune(first.model, first.event_shape, steps)
        began = time.process_time()
        own = tune(second.model, second.event_shape, steps)
        seconds = time.process_time() - began
        with torch.no_grad():
            apart = {name: judge.distances(f.times, f.coefficients) for name, f in (("there", there), ("own", own))}
        loss = gain(apart["there"], apart["own"])
        cost = {"seconds": seconds, "evaluations": own.evaluations}
        rows.append({"steps": steps, "auto": own.before.mean, "gain": own.gain, "loss": loss, **cost})
        print(rows[-1], flush=True)
    print(f"written to {save('transfer', {'runs': a.runs, 'n': a.n, 'rows': rows}, a.out)}")


if __name__ == "__main__":
    main()
