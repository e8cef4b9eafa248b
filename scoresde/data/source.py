"""What data sources share: a split by a seed, and the settings of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from scoresde.data.dataset import Dataset, check_split
from scoresde.data.images import Mode, check_mode, sides


@dataclass(kw_only=True)
class Source(ABC):
    """Settings of a data set, read by `load`.

    Args:
        held_out: fraction of the items that training never uses.
        split_seed: which items those are.

    Raises:
        InputError: held_out outside (0, 1), or a negative seed.
    """

    held_out: float = 0.1
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_split(self.held_out, self.split_seed)

    @abstractmethod
    def load(self) -> Dataset:
        """Read the data."""


@dataclass(kw_only=True)
class ImageSource(Source):
    """Settings of images that are brought to one size and kept decoded in a cache folder.

    Each image is rotated as its camera says, placed on white where it is transparent, resized so that it just covers
    the size asked for, and cropped at the center. Levels 0 to 255 become level / 128 - 1, in [-1, 1): exact in float32,
    each level the lower edge of its bin. The cache is used for as long as no file changes.

    Args:
        size: pixels of a square, or [height, width]; None if all images have one size already.
        mode: "rgb" for color or "grey".
        flip: show training every other image mirrored left to right; for things that have no left and right.
        cache: folder of decoded images; None takes scoresde in the user's cache folder.
        held_out: see `Source`.
        split_seed: see `Source`.

    Raises:
        InputError: an argument out of its range.
    """

    size: int | list[int] | tuple[int, int] | None = None
    mode: Mode = "rgb"
    flip: bool = False
    cache: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_mode(self.mode)
        self.size = sides(self.size)
