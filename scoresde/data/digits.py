"""Handwritten digits that ship with scikit-learn: real images without a download."""

from dataclasses import dataclass

import numpy as np

from scoresde.data.dataset import Dataset, assemble, split
from scoresde.data.source import Source
from scoresde.data.transform import Transform


@dataclass(kw_only=True)
class Digits(Source):
    """1,797 handwritten digits of 8 x 8 pixels with their classes 0 to 9; events (1, 8, 8).

    The levels 0 to 16 become (level - 8) / 8, so model units lie in [-1, 1].

    Args:
        held_out: fraction of the images that training never uses.
        split_seed: which images those are.

    Raises:
        InputError: held_out outside (0, 1) or a negative seed.

    Reference: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """

    held_out: float = 0.2

    def load(self) -> Dataset:
        """Read the images from the installed scikit-learn."""
        from sklearn.datasets import load_digits

        pixels, classes = load_digits(return_X_y=True)
        images = pixels.astype(np.uint8).reshape(-1, 1, 8, 8)
        transform = Transform("image", (1, 8, 8), 8.0, 8.0, low=0.0, high=16.0, levels=17, dtype="uint8")
        parts = split(len(images), self.held_out, self.split_seed)
        return assemble(images, transform, parts, classes)
