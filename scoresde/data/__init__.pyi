from scoresde.data.array import ArrayFile as ArrayFile
from scoresde.data.augment import Augmentation as Augmentation
from scoresde.data.bits import Heartbeat as Heartbeat
from scoresde.data.dataset import Dataset as Dataset
from scoresde.data.huggingface import HuggingFace as HuggingFace
from scoresde.data.images import ImageFolder as ImageFolder
from scoresde.data.memory import Array as Array
from scoresde.data.memory import SavedDataset as SavedDataset
from scoresde.data.small_images import Digits as Digits
from scoresde.data.small_images import FashionMNIST as FashionMNIST
from scoresde.data.small_images import StackedDigits as StackedDigits
from scoresde.data.toys import Checkerboard as Checkerboard
from scoresde.data.toys import GaussianGrid as GaussianGrid
from scoresde.data.toys import Moons as Moons
from scoresde.data.toys import Rings as Rings
from scoresde.data.toys import SwissRoll as SwissRoll
from scoresde.data.transform import Transform as Transform

__all__: list[str]
