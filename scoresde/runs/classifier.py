"""A trained classifier of noisy data from its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from scoresde._shapes import Coefficient
from scoresde.control import NetworkClassifier
from scoresde.errors import refuse
from scoresde.files import of_the_disk
from scoresde.runs.config import CLASSIFIES, read_config
from scoresde.runs.loading import Loaded, loaded


@dataclass(repr=False)
class RunClassifier(Loaded[NetworkClassifier]):
    """A trained classifier of noisy data and what is needed to use it, from `load_classifier`.

        model = scoresde.ClassifierGuided(run.model, scoresde.load_classifier("runs/CLASSIFIER"), [0, 1], scale=2.0)

    Attributes:
        path: the folder.
        model: the network with its SDE, in evaluation mode.
        transform: the map between model units and data units.
        event_shape: shape of one sample.
        config: the stored configuration as plain values.
        step: the training step of these weights.
    """

    def __post_init__(self) -> None:
        self.model.requires_grad_(False)  # of what is guided, only the slope in x is needed
        self.classes = self.model.classes_of(self.event_shape)

    def log_classes(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """See `scoresde.control.NetworkClassifier.log_classes`."""
        return self.model.log_classes(x, alpha, sigma)

    def __repr__(self) -> str:
        return f"<classifier {self.path}: {self.classes} classes on {self.model.sde}, step {self.step}>"


@of_the_disk()
def load_classifier(
    path: str | Path,
    checkpoint: str | int = "last",
    device: str = "auto",
    weights: str = "ema",
    allow: Sequence[str] = (),
) -> RunClassifier:
    """Load a classifier of noisy data from the folder that `scoresde classifier` made; the data need not be there.

    Args:
        path: the folder.
        checkpoint: see `scoresde.load`.
        device: likewise.
        weights: likewise.
        allow: likewise.

    Raises:
        InputError: no such folder, no classifier, no such checkpoint, one of another architecture.
    """
    folder = Path(path)
    cfg = read_config(folder)
    refuse(CLASSIFIES not in cfg, f"run: {folder} holds no classifier of noisy data; scoresde classifier makes one")
    return RunClassifier(**vars(loaded(folder, cfg, NetworkClassifier, checkpoint, device, weights, allow)))
