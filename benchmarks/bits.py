"""Measures and draws the chain of bits, for docs/lineage/2015.md: `python benchmarks/bits.py HEARTBEAT DIGITS`.

HEARTBEAT and DIGITS are runs of `experiment=heartbeat` and `experiment=binary_digits`. The table has the bound of
held-out sequences in bits, that of the exact chain beside it, with its standard error over `--seeds` draws of levels
and noise, the share of n samples that are heartbeats, and how many of n inpainted sequences are.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from record import save
from torch import Tensor, nn

from scoresde import Sampler, load
from scoresde.chains import BinomialChain, BitEvidence, ExactBits
from scoresde.figures.style import INK, finished, panels
from scoresde.loss import BinomialBound

SHOWN = (0.0, 0.25, 0.5, 0.75, 0.9, 0.97, 1.0)  # shares of the steps
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "bits.png"


class Exact(nn.Module):
    """The network of the exact chain of some items, on the rectified path."""

    def __init__(self, exact: ExactBits) -> None:
        super().__init__()
        self.exact = exact

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        t = 1 / (1 + torch.exp(-4 * c.double()))
        return -x * torch.logit(self.exact.forward(x.double(), t).wrong).clamp(-60, 60)


def bound(model: Any, items: Tensor, seeds: int) -> dict[str, float]:
    values = torch.tensor([BinomialBound().summary(model, items, {}, seed)["bound"]["bits"] for seed in range(seeds)])
    return {"bits": float(values.mean()), "standard_error": float(values.std()) / seeds**0.5}


def heartbeats(x: Tensor, patterns: Tensor) -> float:
    return float((x[:, None] == patterns).flatten(2).all(2).any(1).double().mean())


def measure(run: Any, seeds: int, n: int, steps: Sequence[int]) -> dict[str, Any]:
    data, model = run.dataset(), run.model
    patterns = data.items.unique(dim=0)
    exact = BinomialChain(Exact(ExactBits(patterns, model.sde)), model.sde, steps=model.steps).eval()
    found: dict[str, Any] = {"entropy": math.log2(len(patterns)), "seeds": seeds, "n": n, "steps": model.steps}
    found |= {"trained": bound(model, data.heldout, seeds), "exact": bound(exact, data.heldout, seeds)}
    for count in steps:
        found[f"samples, {count} steps"] = heartbeats(Sampler(steps=count).sample(model, n=n, seed=0).x, patterns)
    for known in (5, 10, 15):
        odds = data.heldout[:n] * math.inf
        odds[:, :, known:] = 0
        drawn = Sampler(steps=steps[-2]).sample(BitEvidence(model, odds), n=n, seed=0).x
        found[f"inpainted after {known} bits"] = heartbeats(drawn, patterns)
    return found


def trajectory(model: Any, rows: int, steps: int) -> list[Tensor]:
    moments = [x for _, x in Sampler(steps=steps).trajectory(model, rows=range(rows), seed=0)]
    return [moments[round(share * (len(moments) - 1))] for share in SHOWN]


def sheet(x: Tensor, columns: int) -> Tensor:
    """Images (n, 1, h, w) side by side with lines between them."""
    framed = nn.functional.pad(x, (1, 1, 1, 1), value=0.0)
    rows = [torch.cat(list(framed[i : i + columns, 0]), dim=1) for i in range(0, len(x), columns)]
    return torch.cat(rows)


def draw(beats: Any, digits: Any, steps: int, path: Path) -> None:
    lines = [[x[:, 0] for x in trajectory(beats.model, 40, steps)]]
    lines += [[sheet(x, 5) for x in trajectory(digits.model, 25, steps)]]
    real = digits.dataset().heldout[:5].repeat_interleave(5, 0)
    odds = real * math.inf
    odds[..., 4:, :] = 0
    evidence = BitEvidence(digits.model, odds)
    lines += [[sheet(x, 5) for x in trajectory(evidence, 25, steps)]]
    figure, axes = panels(3, len(SHOWN), 1.5, 1.75, margins=(1.0, 0.5), dpi=110)
    names = ("heartbeats", "digits", "lower halves,\nupper ones known")
    for row, (own, line, name) in enumerate(zip(axes, lines, names, strict=True)):
        own[0].set_ylabel(name, fontsize=9, color=INK)
        for ax, image, share in zip(own, line, SHOWN, strict=True):
            ax.imshow(image.numpy(), cmap="gray", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            if row == 0:
                ax.set_title(f"{share:.0%} of the steps", fontsize=9, color=INK)
    finished(figure, path, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heartbeat")
    parser.add_argument("digits")
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("-n", type=int, default=250)
    parser.add_argument(
        "--steps", type=int, nargs="+", default=(20, 50, 200, 1000), help="the last but one is also shown"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    given = parser.parse_args()
    beats, digits = load(given.heartbeat), load(given.digits)
    found = measure(beats, given.seeds, given.n, given.steps) | {"training_seconds": beats.summary["training_seconds"]}
    for name, value in found.items():
        print(f"{name:<28} {value}")
    draw(beats, digits, given.steps[-2], given.picture)
    print(save("bits", {"heartbeat": found, "digits": digits.summary["bound"]}, given.out))


if __name__ == "__main__":
    main()
