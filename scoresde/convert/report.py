"""What a conversion did, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Report:
    """The account of one conversion.

    Attributes:
        file: where the weights came from.
        layout: score_sde, edm, adm or diffusers.
        weights: `ema`, `raw`, or `single` where the file holds one set only.
        tensors: foreign tensors used.
        parameters: of our network.
        inferred: settings that follow from the weights.
        given: settings that were given.
        assumed: settings at their defaults.
        dropped: tensors that are not used, and why.
        notes: what else to know.
        beside: what else the file holds, such as the training step.
    """

    file: str
    layout: str
    weights: str
    tensors: int
    parameters: int
    inferred: dict[str, Any]
    given: dict[str, Any]
    assumed: dict[str, Any]
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    beside: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        sets = {"ema": "moving averages", "raw": "raw weights", "single": "the one set of weights there is"}
        lines = [
            f"{self.layout}: {self.tensors} tensors of {self.file} became {self.parameters:,} parameters",
            f"weights    {sets[self.weights]}",
        ]
        for name in ("inferred", "given", "assumed"):
            values = getattr(self, name)
            if values:
                lines.append(f"{name:<10} {', '.join(f'{k}={_short(v)}' for k, v in values.items())}")
        lines += [f"not used   {name}: {why}" for name, why in self.dropped.items()]
        lines += [f"note       {note}" for note in self.notes]
        return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")
