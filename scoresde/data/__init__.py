"""Data sources: each has simple constructor arguments and `load() -> Dataset`. No SDE, no network."""

from scoresde.data.array import ArrayFile
from scoresde.data.augment import Augmentation
from scoresde.data.dataset import Dataset
from scoresde.data.digits import Digits
from scoresde.data.fashion_mnist import FashionMNIST
from scoresde.data.folder import ImageFolder
from scoresde.data.huggingface import HuggingFace
from scoresde.data.memory import Array
from scoresde.data.saved import SavedDataset
from scoresde.data.toys import Checkerboard, Moons, Rings, SwissRoll
from scoresde.data.transform import Transform

__all__ = [
    "Array",
    "ArrayFile",
    "Augmentation",
    "Checkerboard",
    "Dataset",
    "Digits",
    "FashionMNIST",
    "HuggingFace",
    "ImageFolder",
    "Moons",
    "Rings",
    "SavedDataset",
    "SwissRoll",
    "Transform",
]
