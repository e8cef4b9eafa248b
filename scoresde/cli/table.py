"""The table of samplers as text."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Row:
    """One sampler; `error` says why if its samples could not be drawn, and then `figures` is empty."""

    name: str
    steps: int | None
    nfe: float = math.nan
    seconds: float = math.nan
    figures: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def _share(figures: dict[str, float]) -> str:
    low, high = figures.get("class_share_min"), figures.get("class_share_max")
    return "" if low is None or high is None else f"{100 * low:.1f}-{100 * high:.1f} %"


def _interval(figures: dict[str, float]) -> str:
    mean, half = figures.get("kernel_distance"), figures.get("kernel_distance_half", math.nan)
    return "" if mean is None else f"{mean:.4f}" if math.isnan(half) else f"{mean:.4f} ± {half:.4f}"


def _number(key: str, form: str) -> Callable[[dict[str, float]], str]:
    return lambda figures: format(figures[key], form) if key in figures else ""


# heading, what stands there, and what it means
_COLUMNS = (
    ("distance", _number("sliced_wasserstein", ".4f"), "sliced Wasserstein distance to held-out data"),
    ("floor", _number("sliced_wasserstein_floor", ".4f"), "the same of the training data: as good as it gets"),
    ("ratio", _number("sliced_wasserstein_ratio", ".3f"), "distance / floor"),
    (
        "nearest",
        _number("nearest_train_ratio", ".3f"),
        "distance to the nearest training item, relative to that of held-out items; far below 1: copies",
    ),
    ("Frechet", _number("frechet_distance", ".4g"), "Frechet distance to held-out data in features of a network"),
    ("its floor", _number("frechet_distance_floor", ".4g"), "the same of training data"),
    ("kernel", _interval, "kernel distance in the same features, and half of its 95 % interval"),
    ("precision", _number("precision", ".3f"), "share of samples that lie where held-out items lie"),
    ("recall", _number("recall", ".3f"), "share of held-out items that lie where samples lie"),
    ("classes", _share, "share of the rarest and of the most frequent class"),
)
_COVERED = (
    "sliced_wasserstein", "nearest_train", "class_share", "frechet_distance", "kernel_distance", "precision", "recall"
)  # fmt: skip


def _columns(rows: Sequence[Row]) -> list[tuple[str, Callable[[dict[str, float]], str], str]]:
    """The columns in which there is something."""
    return [c for c in _COLUMNS if any(c[1](row.figures) for row in rows)]


def legend(rows: Sequence[Row]) -> str:
    """A line for each heading that needs words."""
    notes = [f"{name}: {words}" for name, _, words in _columns(rows)]
    return "\n".join(["NFE: network evaluations per sample", *notes])


def table(rows: Sequence[Row]) -> str:
    """Rows under headings, and a line for each failure."""
    columns = _columns(rows)
    others = dict.fromkeys(k for row in rows for k in row.figures if not k.startswith(_COVERED))
    columns += [(key, _number(key, ".4g"), "") for key in others]
    head = ["sampler", "steps", "NFE", "seconds", *(c[0] for c in columns)]
    lines = [head]
    for row in rows:
        steps = "auto" if row.steps is None else str(row.steps)
        cells = ["-", "-"] if row.error is not None else [f"{row.nfe:.0f}", f"{row.seconds:.1f}"]
        lines.append([row.name, steps, *cells, *(c[1](row.figures) for c in columns)])
    text = aligned(lines)
    text += [f"{row.name}: {row.error}" for row in rows if row.error is not None]
    return "\n".join(text)


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns, the first to the left and the others to the right, with a rule under the headings."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    return [text[0], "-" * max(map(len, text)), *text[1:]]
