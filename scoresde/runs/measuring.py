"""What a configuration leaves to the data: `measured` in place of a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scoresde.build import MEASURED

if TYPE_CHECKING:
    from scoresde.data import Dataset

_KEYS = ("sigma_max", "sigma_data")  # attributes of a data set of the same names


def measured(cfg: Any, dataset: Dataset) -> Any:
    """A copy of a configuration with numbers in place of `measured`, so that it can be used without the data."""
    if isinstance(cfg, Mapping):
        return {
            key: getattr(dataset, key) if value == MEASURED and key in _KEYS else measured(value, dataset)
            for key, value in cfg.items()
        }
    return [measured(value, dataset) for value in cfg] if isinstance(cfg, list) else cfg
