"""What the likelihood of quantised data depends on: dequantisation, number of draws, and the cut-off.

    scoresde train experiment=digits run=RUN
    python benchmarks/dequantise.py RUN [--n 64] [--draws 16] [--steps 20] [--probes 8]

Nats and bits/dim of held-out items with 95 % intervals over items; gaps to the first row of a cut-off are paired, item
by item. The last row has twice the steps of the solver; its gap is to the same with these steps. The probes of an item
are the same in all rows, so they hardly count in the gaps.
"""

import argparse
import math
import time
from typing import Any

import record
import torch
from torch import Tensor

import scoresde
from scoresde.divergence import Hutchinson
from scoresde.likelihood import Likelihood
from scoresde.likelihood.dequantise import KINDS, bounds
from scoresde.likelihood.items import Terms, levels_of
from scoresde.results import student

TAUS = (6.0, 3.0, 2.0, 1.5, 1.0)  # half of a cell in standard deviations of the noise at the cut-off
MAIN = 3.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--probes", type=int, default=8)
    args = parser.parse_args()
    began, run = time.process_time(), scoresde.load(args.run)
    data = run.dataset()
    levels, sde = levels_of(data.transform), run.sde
    table: list[dict[str, Any]] = []

    def terms(at: float, draws: int, steps: int) -> dict[str, Tensor]:
        rule = Likelihood(scoresde.solver("dpmpp_2m"), scoresde.grid("lambda"), Hutchinson(args.probes), steps)
        own = Terms(run.model, data.heldout, rule, levels, KINDS, draws, 16, 0, at)
        found = own.of(range(min(args.n, len(data.heldout))), lambda count: None)
        return {name: torch.as_tensor(values) for name, values in found.items()}

    def row(name: str, nats: Tensor, less: Tensor | None = None) -> None:
        size = math.prod(run.event_shape) * math.log(2)
        value, gap = student(nats.tolist()), student([] if less is None else (nats - less).tolist())
        print(f"{name:44}{value!s:>16}{student((nats / size).tolist())!s:>18}{gap!s:>16}", flush=True)
        table.append({"name": name, "nats": value, "bits": value.mean / size, "gap": gap})

    print(f"{'':44}{'nats':>16}{'bits/dim':>18}{'paired gap':>16}")
    for at, tau in ((sde.t_train, math.inf), *((cut(sde, levels.half, tau), tau) for tau in TAUS)):
        many = args.draws if tau == MAIN else 1
        found = terms(at, many, args.steps)
        where = f"t = {at:.2g}" + ("" if math.isinf(tau) else f", tau = {tau:g}")
        first: Tensor | None = None
        for k in [k for k in (1, 4, 16) if k <= many]:
            for kind in KINDS[::-1]:
                nats = -bounds(found[f"{kind}_weight"][:, :k]).weighted
                row(f"{kind.replace('_', ' ')}, K = {k}, {where}", nats, first)
                first = nats if first is None else first
        bound = found["prior"] + found["diffusion"].mean(1) + found["decoded"]
        row(f"variational bound, {where}", bound, first)
    both = (terms(cut(sde, levels.half, MAIN), 1, many * args.steps) for many in (2, 1))
    fine, one = (-found["truncated_normal_weight"][:, 0] for found in both)
    row(f"truncated normal, twice the steps, tau = {MAIN:g}", fine, one)
    seconds = time.process_time() - began
    print(f"{args.n} held-out items, {args.steps} steps, {args.probes} probes, {seconds:.0f} s of the processor")
    record.save("dequantise", {"settings": vars(args), "cpu_seconds": seconds, "rows": table})


def cut(sde: scoresde.SDE, half: float, tau: float) -> float:
    """The time at which half of a cell is so many standard deviations of the noise."""
    return float(sde.t_of_lam(torch.tensor(math.log(tau / half), dtype=torch.float64)))


if __name__ == "__main__":
    main()
