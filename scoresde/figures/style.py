"""What all figures share: colors, panels, axes, and the sheet of images."""

from __future__ import annotations

import functools
import io
import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scoresde._version import __version__
from scoresde.files import aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scoresde.data.transform import Transform

# Blue and orange of Okabe and Ito's palette, which differ for any color vision and in grey print.
SAMPLES = "#0072B2"
DATA = "#D98200"
FAINT = "#C4C4C4"
INK = "#333333"
HIDDEN = (0.62, 0.78, 0.90)  # of an image: what is not known, in a color that no grey is taken for
GAP = 0.42  # between images: grey, so that neither black nor white ones run into each other
SPACE = 5  # pixels between images
MOST_POINTS = 4000
_LAYOUT: Literal["constrained"] = "constrained"  # of panels


@functools.cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        """A figure that notebooks show; made without pyplot, so that no global state changes."""

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=self.dpi)
            return buffer.getvalue()

    return NotebookFigure


def panels(
    rows: int, columns: int, width: float, height: float, margins: tuple[float, float] = (0.0, 0.6), dpi: int = 120
) -> tuple[Figure, np.ndarray]:
    """A figure of equal panels (rows, columns), each of width x height inches, with margins beside and above them."""
    size = (columns * width + margins[0], rows * height + margins[1])
    figure = _figure_class()(figsize=size, dpi=dpi, layout=_LAYOUT, facecolor="white")
    return figure, figure.subplots(rows, columns, squeeze=False)


def wrapped(count: int, across: int, width: float, height: float, **looks: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `count` equal panels in rows of at most `across`, see `panels`."""
    across = min(count, across)
    figure, axes = panels(math.ceil(count / across), across, width, height, **looks)
    for ax in axes.ravel()[count:]:
        ax.set_visible(False)
    return figure, list(axes.ravel()[:count])


def canvas(width: int, height: int) -> Figure:
    """An empty figure of width x height pixels, for `place`."""
    return _figure_class()(figsize=(width / 100, height / 100), dpi=100, facecolor="white")


def place(figure: Figure, sheet: np.ndarray, left: float, top: float) -> Axes:
    """Show a sheet (rows, columns, 3) with its top left corner at a pixel; each of its pixels is one of the figure."""
    width, height = figure.bbox.width, figure.bbox.height
    down, across = sheet.shape[:2]
    # a hair less, since matplotlib before 3.11 rounds a size up
    ax = figure.add_axes((left / width, 1 - (top + down) / height, (across - 1e-6) / width, (down - 1e-6) / height))
    ax.imshow(sheet, interpolation="nearest", aspect="auto")
    ax.set_axis_off()
    return ax


def paths(ax: Axes, points: np.ndarray, alpha: float) -> None:
    """Lines through points (steps, n, 2), dark at the first step and light at the last."""
    from matplotlib.collections import LineCollection

    segments = np.stack([points[:-1], points[1:]], axis=2).reshape(-1, 2, 2)
    lines = LineCollection(list(segments), cmap="viridis", linewidths=0.7, alpha=alpha, zorder=2)
    lines.set_array(np.repeat(np.linspace(0, 0.9, len(points) - 1), points.shape[1]))
    lines.set_clim(0, 1)
    ax.add_collection(lines)


def dark_to_light(count: int) -> np.ndarray:
    """Colors (count, 4) of things in an order, as those of `paths`."""
    from matplotlib import colormaps

    return np.asarray(colormaps["viridis"](np.linspace(0, 0.9, count)))


def legend(figure: Figure, ax: Axes) -> None:
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def dots(ax: Axes, points: np.ndarray, color: str, alpha: float) -> None:
    x, y = points[:MOST_POINTS].T
    ax.scatter(x, y, s=4, color=color, alpha=alpha, linewidths=0)


def plain(ax: Axes) -> None:
    ax.tick_params(which="both", labelsize=8, colors=INK, length=3)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def plane(ax: Axes, x: tuple[float, float], y: tuple[float, float], equal: bool = True) -> None:
    ax.set_xlim(*x)
    ax.set_ylim(*y)
    ax.set_aspect("equal" if equal else "auto")
    plain(ax)


def span(values: np.ndarray, margin: float) -> tuple[float, float]:
    """The range of all but the most extreme thousandth of the finite values, and a margin on both sides."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return -1.0, 1.0
    low, high = (float(q) for q in np.quantile(finite, [0.0005, 0.9995]))
    room = margin * (high - low) or 0.5 * max(abs(low), 1.0)
    return low - room, high + room


def square(points: np.ndarray, margin: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of both axes, of one length, around points (n, 2)."""
    ranges = [span(column, margin) for column in points.T]
    half = max(high - low for low, high in ranges) / 2
    x, y = ((low + high) / 2 for low, high in ranges)
    return (x - half, x + half), (y - half, y + half)


def feature(transform: Transform, k: int) -> str:
    """The name of a feature."""
    return f"feature {k + 1}" if transform.names is None else transform.names[k]


def name_axes(ax: Axes, transform: Transform) -> None:
    """Label both axes with the names of two features, if there are any."""
    if transform.names is not None:
        ax.set_xlabel(transform.names[0], color=INK)
        ax.set_ylabel(transform.names[1], color=INK)


def finished(figure: Figure, path: str | Path | None, title: str | None) -> Figure:
    """Add the title, write the figure if there is a path, and return it."""
    if title is not None:
        figure.suptitle(title, fontsize=12, color=INK)
    if path is not None:
        save(figure, path, dpi=figure.dpi)
    return figure


def both(figure: Figure, stem: Path, title: str) -> list[Path]:
    """Write a figure of a report as stem.png and stem.svg, with its title and what made it."""
    import matplotlib

    made = f"scoresde {__version__}, {datetime.now():%Y-%m-%d}"
    figure.text(0.995, 0.008, made, fontsize=7, color="#8A8A8A", ha="right", va="bottom")
    files = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    finished(figure, files[0], title)
    figure.set_layout_engine("none")  # it is the same for the next file, and half of the time
    with matplotlib.rc_context({"svg.hashsalt": "scoresde", "svg.fonttype": "path"}):
        save(figure, files[1], metadata={"Date": None})
    return files


def save(figure: Figure, path: str | Path, **options: Any) -> None:
    """Write a figure in the format that the ending of the path names."""
    with aside(Path(path)) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:].lower() or "png", **options)


def form(transform: Transform) -> Literal["image", "plane", "table", "series", "volume"]:
    """What an event is drawn as; a volume is one of three axes and more, drawn as its middle plane."""
    shape = transform.event_shape
    if transform.kind == "image":
        return "image"
    if math.prod(shape) == 2:
        return "plane"
    return "table" if len(shape) < 2 else "series" if len(shape) == 2 else "volume"


def as_images(events: np.ndarray, transform: Transform) -> np.ndarray:
    """Images or volumes (n, *event) as images (n, channels, height, width)."""
    if transform.kind == "image":
        return events
    planes = events.reshape(len(events), -1, 1, *events.shape[-2:])
    return np.asarray(planes[:, planes.shape[1] // 2])


def greys(ruler: np.ndarray, transform: Transform) -> tuple[float, float]:
    """What is black and what is white: the bounds of the data, or else the range of a ruler, of images or volumes."""
    rare = 0.0 if transform.kind == "image" else 0.005
    low, high = (float(q) for q in np.nanquantile(ruler, [rare, 1 - rare]))
    return low if transform.low is None else transform.low, high if transform.high is None else transform.high


def colors(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """An image (channels, height, width) as (height, width, 3) from 0 to 1: colors, with a fourth channel on white.

    Of other numbers of channels the first one in grey. NaN is drawn in the color of what is hidden.
    """
    unit = np.nan_to_num((image.astype(np.float64) - low) / max(high - low, 1e-12)).clip(0, 1)
    if len(unit) == 4:
        unit = 1 - unit[3] * (1 - unit[:3])
    shown = np.moveaxis(unit if len(unit) == 3 else unit[:1].repeat(3, axis=0), 0, -1)
    return np.where(np.isnan(image).any(axis=0)[..., None], HIDDEN, shown)


def tiled(images: np.ndarray, low: float, high: float, across: int | None = None, pixels: int = 44) -> np.ndarray:
    """One sheet (rows, columns, 3) in uint8 of images (n, channels, height, width).

    All of them in rows of `across`; or, without that, as many as fit into a square of up to 10 x 10. Small images are
    enlarged by a whole number, to at most `pixels` pixels.
    """
    n, _, h, w = images.shape
    zoom = max(1, pixels // max(h, w))
    if across is None:
        across = max(1, min(10, math.ceil(math.sqrt(n)), max(3, 640 // (zoom * max(h, w)))))
        images = images[: across**2]
    down = math.ceil(len(images) / across)
    sheet = np.full((down * (zoom * h + SPACE) - SPACE, across * (zoom * w + SPACE) - SPACE, 3), GAP)
    for k, image in enumerate(images):
        top, left = (k // across) * (zoom * h + SPACE), (k % across) * (zoom * w + SPACE)
        block = colors(image, low, high).repeat(zoom, axis=0).repeat(zoom, axis=1)
        sheet[top : top + zoom * h, left : left + zoom * w] = block
    return np.asarray(np.rint(sheet * 255), dtype=np.uint8)
