"""The single values at the top of each command's configuration, checked like the arguments of any other class."""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from scoresde.build import TARGET, build
from scoresde.constraints import (
    Constraint,
    Count,
    NonNegative,
    NonNegativeInt,
    Positive,
    PowerOfTwo,
    ProperFraction,
    at_least,
    fitting,
)
from scoresde.errors import InputError, refuse

if TYPE_CHECKING:
    from scoresde.model import Model
    from scoresde.runs import Run

T = TypeVar("T")
_LONGEST = 255  # bytes of a name in most file systems
_WORDS = f"names of at most {_LONGEST} bytes"
Place = Annotated[str, Constraint(lambda path: all(len(p.encode()) <= _LONGEST for p in Path(path).parts), _WORDS)]
_MOST = 64  # characters of a name that stands after the time in that of a folder
Name = Annotated[str, Constraint(lambda name: len(name) <= _MOST, f"at most {_MOST} characters")]
Format = Literal["npz", "png"]  # of samples
# settings that name a further folder, whose checkpoint and weights are settings too, and what loads it
_OTHERS = {"guide": "load", "classifier": "load_classifier"}


def listed(value: T | list[T]) -> list[T]:
    """One value or several, as a list."""
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True)
class Settings:
    """What all commands have.

    Args:
        allow: packages of the user's own whose classes a configuration may name.
    """

    allow: str | list[str] | None

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> Self:
        """Take the values from a configuration; raises InputError for a wrong type or range."""
        own = {f.name: cfg[f.name] for f in dataclasses.fields(cls)}
        settings: Self = build({TARGET: f"{cls.__module__}.{cls.__name__}", **own})
        return settings

    @property
    def packages(self) -> list[str]:
        """The allowed packages; those in the working directory can be imported from now on."""
        names = listed(self.allow or [])
        here = str(Path.cwd())
        if names and here not in sys.path:
            sys.path.append(here)
        return names


@dataclass(frozen=True)
class DrawSettings(Settings):
    """What commands that draw samples have besides.

    Args:
        seed: decides everything random.
        n: number of samples.
        device: auto, cpu, cuda or cuda:N.
    """

    seed: NonNegativeInt
    n: Count
    device: str


@dataclass(frozen=True)
class ModelSettings(Settings):
    """What commands that evaluate the model of a run have besides.

    Args:
        seed: decides everything random.
        device: auto, cpu, cuda or cuda:N.
        checkpoint: last, best or the number of a step.
        weights: which average of the weights, or raw.
        label: a class, or several that the samples take in turn; None for none.
    """

    seed: NonNegativeInt
    device: str
    checkpoint: str | int
    weights: str
    label: int | list[int] | None

    def load(self, run: str) -> "Run":
        """The run in a folder, with these weights on this device."""
        from scoresde import runs  # imports torch

        return runs.load(run, self.checkpoint, self.device, self.weights, self.packages)


@dataclass(frozen=True)
class TrainSettings(DrawSettings):
    """The run folder, None for a new one, of this name; and a run whose weights to start from, if any."""

    run: Place | None
    name: Name | None
    init: Place | None

    def __post_init__(self) -> None:
        refuse(None not in (self.run, self.name), "name: run= names the folder; leave one of them out")


@dataclass(frozen=True)
class ClassifierSettings(Settings):
    """The run for whose data the classifier is, the folder, None for a new one, the seed and the device."""

    run: Place
    out: Place | None
    seed: NonNegativeInt
    device: str


@dataclass(frozen=True)
class BatchSettings(DrawSettings, ModelSettings):
    """What commands that draw samples from a run in batches have besides.

    Args:
        batch_size: samples computed at once.
        precision: arithmetic of the network: float32, bf16, fp16, or auto, which is bf16 where it is fast.
        compile: compile the network.
        devices: processes of this machine that share out the batches.
    """

    batch_size: Count
    precision: Literal["auto", "float32", "bf16", "fp16"]
    compile: bool
    devices: PowerOfTwo

    @contextmanager
    def accelerated(self, run: "Run") -> Iterator[None]:
        """Within, the network of a run is evaluated in this precision; coefficients and state are as they were."""
        import torch

        from scoresde.training.acceleration import Acceleration, half_type

        dtype = half_type(self.precision, torch.device(run.model.device))
        products = torch.get_float32_matmul_precision()
        with Acceleration(dtype, self.compile).applied(run.model.net):
            torch.set_float32_matmul_precision(products)  # float32 means float32 here, not TF32
            yield


@dataclass(frozen=True)
class GuideSettings(BatchSettings):
    """What commands that sample with guidance have besides.

    Args:
        guidance: its scale, or several; 1 turns it off.
        guidance_interval: noise levels between which it acts; None for all.
        guide: a weaker run, from which samples are led away.
        guide_checkpoint: of the guide.
        guide_weights: likewise.
        classifier: of noisy data of the run, which leads samples to the label.
        classifier_checkpoint: of the classifier.
        classifier_weights: likewise.
    """

    guidance: NonNegative | list[NonNegative]
    guidance_interval: list[float] | None
    guide: Place | None
    guide_checkpoint: str | int
    guide_weights: str
    classifier: Place | None
    classifier_checkpoint: str | int
    classifier_weights: str

    def __post_init__(self) -> None:
        for other in _OTHERS:
            for part, plain in (("checkpoint", "last"), ("weights", "ema")):
                alone = getattr(self, other) is None and (value := getattr(self, f"{other}_{part}")) != plain
                refuse(alone, f"{other}_{part}: {value} is that of a folder; give {other}=FOLDER" if alone else "")

    @property
    def leads(self) -> bool:
        """Whether more than a label and a scale says where samples are led."""
        return self.guidance_interval is not None or any(getattr(self, key) is not None for key in _OTHERS)

    def guided(self, run: "Run", method: Any, guidance: float) -> "Model":
        """What samples are drawn from with a scale, by a `scoresde.control.GuidanceMethod`."""
        from scoresde.runs.guiding import guided

        return guided(run, self.label, guidance, self.guidance_interval, method, **self.others)

    @cached_property
    def others(self) -> dict[str, Any]:
        """The further runs and classifiers that settings name, by the names of these."""
        return {key: self._other(key) for key in _OTHERS if getattr(self, key) is not None}

    def _other(self, key: str) -> Any:
        """The run or classifier that a setting names, with the checkpoint and the weights that are its own."""
        from scoresde import runs

        own = {"run": key, "checkpoint": f"{key}_checkpoint", "weights": f"{key}_weights"}
        folder, checkpoint, weights = (getattr(self, name) for name in own.values())
        try:
            return getattr(runs, _OTHERS[key])(folder, checkpoint, self.device, weights, self.packages)
        except InputError as error:
            name, _, rest = str(error).partition(": ")
            raise InputError(f"{own.get(name, f'{key}: {name}')}: {rest}") from None


@dataclass(frozen=True)
class SampleSettings(GuideSettings):
    """The run, where the samples go, in which format, and what they redraw or interpolate."""

    run: Place
    out: Place | None
    format: Format
    guidance: NonNegative
    start: str | list[str] | None
    strength: ProperFraction
    interpolate: Annotated[int, at_least(2), fitting(1000)] | None

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse(self.start == [], "start: it names no file; give an image or a .npy file")
        two = self.interpolate is None or len(listed(self.start or [])) == 2
        refuse(not two, f"interpolate: {self.interpolate} needs two items; give start=[FILE,FILE]")


@dataclass(frozen=True)
class EvaluateSettings(GuideSettings):
    """The run, its samples if they are saved, and where the result goes."""

    run: Place | None
    samples: Place | None
    out: Place | None
    guidance: NonNegative


@dataclass(frozen=True)
class SelfTestSettings(Settings):
    """Whose data, how much is measured, and where the result goes; `device` is that of networks of metrics."""

    run: Place | None
    device: str
    n: Count
    repeats: Count
    resamplings: Annotated[int, at_least(78), fitting(16)]
    seed: NonNegativeInt
    out: Place | None


@dataclass(frozen=True)
class CompareSettings(GuideSettings):
    """What is compared, how often, and where the result goes."""

    run: Place | None
    folder: Place | None
    out: Place | None
    budgets: int | list[int]
    tolerances: Positive | list[Positive]
    seeds: Annotated[int, Constraint(lambda n: n <= 10_000, "at most 10,000", True)]
    dtype: Literal["float32", "float64"]


@dataclass(frozen=True)
class CollectSettings(Settings):
    """What is collected, what is drawn, and where it goes."""

    folder: Place
    metric: str | None
    keys: str | list[str] | None
    out: Place | None


@dataclass(frozen=True)
class DoctorSettings(Settings):
    """A run whose SDE and data are meant, if any, and a file for the findings."""

    run: Place | None
    out: Place | None
