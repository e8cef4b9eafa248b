"""Small trainings whose weights at commit d14582e are kept in fixtures/training_reference.json."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from training_job import fit, last, model_and_optimizer

from scoresde import VPSDE, ScoreModel
from scoresde.data import Dataset, Moons, Transform
from scoresde.loss import DenoisingScoreMatching
from scoresde.nets import ResidualMLP, UNet

STEPS = 20


def images(flip: bool = False) -> Dataset:
    pixels = torch.randint(0, 256, (48, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    transform = Transform.of_levels((1, 8, 8))
    return Dataset(transform.encode(pixels[8:]), transform.encode(pixels[:8]), transform, flip=flip)


def _of(net: type[torch.nn.Module], *args: Any, **settings: Any) -> dict[str, Any]:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        model = ScoreModel(net(*args, **settings), VPSDE(), sigma_data=1.0)
        for name, weight in sorted(model.named_parameters()):  # most begin at zero
            if not name.endswith("null"):
                torch.nn.init.normal_(weight, std=0.1)
    return {"model": model, "optimizer": torch.optim.Adam(model.parameters(), lr=2e-3)}


def _plain() -> dict[str, Any]:
    model, optimizer = model_and_optimizer()
    loss = DenoisingScoreMatching("edm", "log_normal", importance=True)
    return {"model": model, "optimizer": optimizer, "loss": loss, "ema_power": (0.05,)}


def _classes() -> dict[str, Any]:
    told = {"condition": "class", "condition_size": 2, "condition_dropout": 0.2}
    return {**_of(ResidualMLP, (2,), width=32, blocks=1, dropout=0.1, **told), "dataset": Moons(n=300).load()}


def _augmented() -> dict[str, Any]:
    told = {"condition": {"augment": "vector"}, "condition_size": 9}
    return {**_of(ResidualMLP, (1, 8, 8), width=16, blocks=1, **told), "dataset": images(), "augment": 0.3}


def _flipped() -> dict[str, Any]:
    return {**_of(UNet, (1, 8, 8), channels=8, groups=4, embedding=16, dropout=0.1), "dataset": images(flip=True)}


CASES = {
    "plain": _plain,
    "micro-batches": lambda: {**_plain(), "micro_batch": 8},
    "classes": _classes,
    "classes in micro-batches": lambda: {**_classes(), "micro_batch": 8},
    "augmented": _augmented,
    "augmented in micro-batches": lambda: {**_augmented(), "micro_batch": 8},
    "flipped": _flipped,
}


def weights(case: str, run: Path) -> Tensor:
    """All weights, averages and history included, at the end of a case, in one vector."""
    settings = CASES[case]()
    fit(run, steps=STEPS, **settings)
    modules = last(run, STEPS).modules
    return torch.cat([t.float().flatten() for _, m in sorted(modules.items()) for _, t in sorted(m.items())])
