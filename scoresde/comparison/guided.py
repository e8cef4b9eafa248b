"""Guidance as rows of a comparison: scales and methods, and how much of the diversity they leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scoresde.comparison.budget import Candidate
from scoresde.constraints import NonNegative, checked
from scoresde.control import ClassifierFree, GuidanceMethod, Projected
from scoresde.control.guided import require_interval
from scoresde.data import Dataset
from scoresde.errors import InputError, refuse
from scoresde.named import name_of, named
from scoresde.results import Measurement, Quantity
from scoresde.runs import Run
from scoresde.runs.classifier import RunClassifier

SPREAD = Quantity(
    "spread", "spread", "root mean square distance to the mean of the class, over that of real items",
    "below 1 diversity is lost", floor="train",
)  # fmt: skip
_USUAL = "cfg"


@dataclass(frozen=True)
class Guidance:
    """How a candidate is guided; the label is that of the problem.

    Args:
        scale: 1 is the model with its label alone.
        method: how two predictions are combined; None for `cfg`.
        interval: of noise levels, see `scoresde.Guided`; None for all.
        guide: a weaker run in place of the model without its label.
        classifier: of noisy data, which leads a model without a label to the classes.
    """

    scale: float = 1.0
    method: GuidanceMethod | None = None
    interval: tuple[float, float] | None = None
    guide: Run | None = None
    classifier: RunClassifier | None = None

    def __post_init__(self) -> None:
        checked(self.scale, "guidance", NonNegative)
        if self.interval is not None:
            object.__setattr__(self, "interval", require_interval(self.interval, "guidance_interval"))

    @property
    def idle(self) -> bool:
        """Whether it leaves the model as it is."""
        alone = self.scale == 1 and self.classifier is None
        return alone and (self.method is None or type(self.method) in (ClassifierFree, Projected))


def guidances(
    scales: Any,
    methods: Any,
    solvers: Sequence[Candidate],
    interval: Any = None,
    guide: Run | None = None,
    classifier: RunClassifier | None = None,
) -> list[Candidate]:
    """Each method with each scale and each solver.

    Args:
        scales: one or several.
        methods: one or several names of conf/guidance_method, mappings with `guidance_method` and changes of its
            arguments, of its `interval` and its `scale`, or objects; None for `cfg`.
        solvers: with which they sample.
        interval: of methods that give none.
        guide: see `Guidance`.
        classifier: see `Guidance`.

    Raises:
        InputError: a name or an argument that is not known, or a scale below 0.
    """
    found: dict[str, Guidance] = {}
    for entry in _listed(_USUAL if methods is None else methods):
        label, own, method, given = _asked(entry)
        for scale in _listed(scales if own is None else own):
            found[f"{label} {checked(scale, 'guidance', NonNegative):g}"] = Guidance(
                float(scale), method, interval if given is None else given, guide, classifier
            )
    refuse(not found, "guidance: [] is not allowed; give one scale at least, such as guidance=[1,2,4]")
    if len(found) == 1:  # its title says it
        (only,) = found.values()
        return [replace(one, method=only) for one in solvers]
    return [
        replace(one, name=name if len(solvers) == 1 else f"{name} {one.name}", method=guidance)
        for name, guidance in found.items()
        for one in solvers
    ]


def _listed(values: Any) -> list[Any]:
    several = isinstance(values, Sequence) and not isinstance(values, str)
    return list(values) if several else [values]


def _asked(entry: Any) -> tuple[str, Any, GuidanceMethod, Any]:
    """Name, scale, method and interval of an entry; None for a scale or an interval that it leaves open."""
    if isinstance(entry, GuidanceMethod):
        return name_of("guidance_method", entry), None, entry, None
    entry = {"guidance_method": entry} if isinstance(entry, str) else entry
    kind = entry.get("guidance_method") if isinstance(entry, Mapping) else None
    if not isinstance(kind, str):
        raise InputError(f"guidance_methods: {entry!r} has no name of a method; write {{guidance_method: NAME, ...}}")
    changes = {str(k): v for k, v in entry.items() if k not in ("guidance_method", "scale", "interval")}
    method: GuidanceMethod = named("guidance_method", kind, **changes)
    shown = {k: v for k, v in entry.items() if k not in ("guidance_method", "scale")}
    label = f"{kind} {', '.join(f'{k}={v}'.replace(' ', '') for k, v in shown.items())}".strip()
    return label, entry.get("scale"), method, entry.get("interval")


def variance_within(x: Tensor, classes: Tensor | None) -> float:
    """The trace of the covariance of items (n, *event) of a class, on average over their classes (n,)."""
    x = x.flatten(1).double()
    parts = [x] if classes is None else [x[classes == c] for c in torch.unique(classes)]
    found = [float(part.var(0).sum()) for part in parts if len(part) > 1]
    return sum(found) / max(len(found), 1)


def spread(samples: Tensor, classes: Tensor | None, real: Dataset) -> dict[str, Measurement]:
    """How much of the diversity within classes is left, with what training items reach.

        spread = sqrt(V(samples) / V(held-out items)),   V = mean over classes c of tr Cov(x | c)

    Args:
        samples: (n, *event), in model units.
        classes: of the samples (n,); None where there are none, which makes one class of all.
        real: the items of these classes.
    """
    of_real = (None, None) if classes is None else (real.heldout_labels, real.train_labels)
    base = variance_within(real.heldout, of_real[0])
    values = (variance_within(samples, classes), variance_within(real.train, of_real[1]))
    value, floor = (float((v / base) ** 0.5) if base > 0 else float("nan") for v in values)
    return {SPREAD.key: Measurement(value, floor)}


def classes_of(label: int | Sequence[int] | None, n: int) -> Tensor | None:
    """The classes of samples 0 to n - 1, which take those of a label in turn."""
    if label is None:
        return None
    own = torch.as_tensor([label] if isinstance(label, int) else list(label))
    return own[torch.arange(n) % len(own)]
