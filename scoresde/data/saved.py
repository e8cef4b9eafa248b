"""A data set kept in the folder of a run, for trainings on data that no configuration can name."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scoresde.data.dataset import Dataset
from scoresde.data.transform import Transform
from scoresde.errors import InputError

FILE = "data.npz"
_PARTS = ("conditions", "heldout_conditions")


@dataclass
class SavedDataset:
    """What `save` wrote: training and held-out items with their conditions.

    Args:
        run: the folder.

    Raises:
        InputError: from `load`: there is no such file.
    """

    run: Path | None = None

    def load(self) -> Dataset:
        """Read the file."""
        file = (self.run or Path()) / FILE
        if not file.is_file():
            raise InputError(f"data: {file} is not there; the data of this run were given in Python, or are too large")
        with np.load(file, allow_pickle=False) as archive:
            content = {key: archive[key] for key in archive.files}
        transform = Transform.from_dict(json.loads(str(content.pop("transform"))))

        def restored(x: np.ndarray) -> torch.Tensor:
            return transform.encode(x).float() if transform.levels else torch.from_numpy(x)

        items, heldout, flip = restored(content.pop("items")), restored(content.pop("heldout")), content.pop("flip")
        known: dict[str, dict[str, torch.Tensor]] = {part: {} for part in _PARTS}
        for key, values in content.items():
            part, _, name = key.partition("/")
            known[part][name] = torch.from_numpy(values)
        return Dataset(items, heldout, transform, flip=bool(flip), **known)


def save(dataset: Dataset, run: Path) -> None:
    """Keep a data set in a folder; quantised items as levels, others in model units, so that they are the same."""
    transform = dataset.transform

    def plain(x: torch.Tensor) -> np.ndarray:
        return transform.finish(x) if transform.levels else x.numpy()

    content = {f"{part}/{name}": v.numpy() for part in _PARTS for name, v in getattr(dataset, part).items()}
    content |= {"transform": np.array(json.dumps(transform.to_dict())), "flip": np.array(dataset.flip)}
    content |= {"items": plain(dataset.train), "heldout": plain(dataset.heldout)}
    with (run / FILE).open("wb") as file:
        np.savez(file, allow_pickle=False, **content)
