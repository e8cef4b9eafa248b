"""Pictures show what they were given: pixels, points, counts and directions are read back from the drawing."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import scoresde.figures
from scoresde.data import Digits, Moons, Transform
from scoresde.figures import picture, plots, score_field, style, trajectories
from scoresde.results import Quantity, Results, Row


def points_of(figure: Figure, panel: int, scatter: int = 0) -> np.ndarray:
    """The points of a scatter plot."""
    drawn = [c for c in figure.axes[panel].collections if not isinstance(c, LineCollection)]
    return np.asarray(drawn[scatter].get_offsets())


def table(values: np.ndarray, names: tuple[str, ...] | None = None) -> tuple[Transform, Tensor]:
    transform = Transform.standardising(values, "table", per_feature=True, names=names, dtype="float64")
    return transform, transform.encode(values)


def test_every_pixel_of_every_digit_is_a_square_block_in_the_file(tmp_path: Path) -> None:
    data = Digits().load()
    shown = (data.train[:30], data.transform)
    picture(*shown, tmp_path / "digits.png", data.heldout[:120], title="digits")
    figure = picture(*shown, reference=data.heldout[:120], title="digits")
    assert figure is not None
    with Image.open(tmp_path / "digits.png") as opened:
        sheet = np.asarray(opened.convert("L"))
    zoom, gap = 5, 5
    for ax, part, across in zip(figure.axes, (data.train[:30], data.heldout[:100]), (6, 10), strict=True):
        box = ax.get_window_extent()
        left, top = round(box.x0), round(sheet.shape[0] - box.y1)
        for k, digit in enumerate(data.transform.finish(part)[:, 0]):
            row, column = (8 * zoom + gap) * (k // across) + top, (8 * zoom + gap) * (k % across) + left
            block = sheet[row : row + 8 * zoom, column : column + 8 * zoom]
            assert (block == np.kron(np.rint(digit / 16 * 255), np.ones((zoom, zoom)))).all(), k


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_those_of_the_data(tmp_path: Path, channels: int) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (4, channels, 6, 9), dtype=np.uint8)
    transform = Transform("image", (channels, 6, 9), 128.0, 128.0, low=0.0, high=255.0, levels=256, dtype="uint8")
    figure = picture(transform.encode(levels), transform)
    assert figure is not None
    sheet = np.asarray(figure.axes[0].images[0].get_array())
    zoom, gap = 44 // 9, 5
    for k, image in enumerate(levels):
        top, left = (k // 2) * (6 * zoom + gap), (k % 2) * (9 * zoom + gap)
        shown = sheet[top : top + 6 * zoom : zoom, left : left + 9 * zoom : zoom]
        assert (np.moveaxis(shown, -1, 0) == image).all()


def test_points_are_drawn_in_data_units_on_shared_axes_and_strays_are_counted() -> None:
    data = Moons(n=500).load()
    samples = data.train[:100].clone()
    samples[7] = 1e4
    samples[9] = float("nan")
    figure = picture(samples, data.transform, reference=data.heldout)
    assert figure is not None
    assert np.allclose(points_of(figure, 0), data.transform.finish(samples), equal_nan=True)  # samples left, data right
    assert np.allclose(points_of(figure, 1), data.transform.finish(data.heldout))
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim()
    assert first.get_ylim() == second.get_ylim()
    assert {ax.get_aspect() for ax in figure.axes} == {1.0}
    assert [ax.get_title() for ax in figure.axes] == ["samples, 2 of 100 outside", "real data"]


def test_histograms_hold_the_share_of_samples_on_the_axis_under_the_name_of_the_column() -> None:
    values = np.random.default_rng(0).standard_normal((400, 3)) * [1, 10, 100] + [0, 50, 1e6]
    transform, model = table(values, ("a", "b", "c"))
    samples = model.clone()
    samples[:100, 1] = 500
    samples[:40, 2] = float("nan")
    figure = picture(samples, transform, reference=model)
    assert figure is not None
    assert [ax.get_xlabel() for ax in figure.axes] == ["a", "b", "c"]
    assert all(len(ax.get_xticks()) <= 6 for ax in figure.axes)  # long numbers do not touch
    for ax, share in zip(figure.axes, (1, 0.75, 0.9), strict=True):
        outline = ax.patches[-1].get_path().vertices  # the samples are drawn last, as one outline
        x, y = np.asarray(outline).T
        assert np.isclose(abs(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)), share, atol=0.011)
        assert ax.get_xlim()[0] < values[:, figure.axes.index(ax)].mean() < ax.get_xlim()[1]


def test_wide_tables_say_what_is_left_out_and_pairs_are_scattered() -> None:
    transform, model = table(np.random.default_rng(0).standard_normal((50, 8)))
    figure = picture(model, transform)
    assert figure is not None
    assert figure.get_supylabel() == "the first 6 of 8 features"
    assert sum(ax.get_visible() for ax in figure.axes) == 6
    transform, model = table(np.random.default_rng(0).standard_normal((50, 2)) * [1, 99], ("a", "b"))
    figure = picture(model, transform)
    assert figure is not None
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("a", "b")
    assert np.allclose(points_of(figure, 0), transform.finish(model))


def test_series_are_lines_and_volumes_show_their_middle() -> None:
    values = np.random.default_rng(0).standard_normal((5, 2, 30))
    transform, model = table(values)
    figure = picture(model, transform, reference=model)
    assert figure is not None
    drawn = [[line.get_ydata() for line in ax.lines] for ax in figure.axes]
    assert np.allclose(drawn[1], values[:, 0])
    assert np.allclose(drawn[3], values[:, 1])
    values = np.random.default_rng(0).random((4, 3, 2, 50, 50))
    values[:, 1, 1] = np.linspace(0, 1, 50)  # the middle of six planes: a ramp that no other one shows
    transform, model = table(values)
    figure = picture(model, transform)
    assert figure is not None
    sheet = np.asarray(figure.axes[0].images[0].get_array(), dtype=float)
    assert (np.diff(sheet[:50, :50, 0], axis=1) >= 0).all()
    assert sheet[:50, :50].std() > 60


def test_score_lines_follow_the_score_in_data_units() -> None:
    values = np.random.default_rng(0).standard_normal((500, 2)) * [1, 3] + [5, -2]
    transform, model = table(values)
    seen: list[Tensor] = []

    def pull(x: Tensor) -> Tensor:
        seen.append(x)
        return -4 * x

    figure = score_field([("low", pull), ("high", lambda x: -x)], transform, reference=model)
    assert figure is not None
    assert [ax.get_title() for ax in figure.axes[:2]] == ["low", "high"]
    # Every line runs along the ray to the mean, whatever the units of the two columns are.
    lines = next(c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    segments = np.stack(lines.get_segments())
    lengths = np.asarray(lines.get_array())
    moves = (segments[:, 1] != segments[:, 0]).any(1)
    segments, lengths = segments[moves], lengths[moves]
    step, ray = segments[:, 1] - segments[:, 0], values.mean(0) - segments.mean(1)
    cosine = (step * ray).sum(1) / np.linalg.norm(step, axis=1) / np.linalg.norm(ray, axis=1)
    far = np.linalg.norm(ray, axis=1) > 1
    assert (cosine[far] > 0.98).all()
    # Colour is the length in model units, at the start of each segment.
    expected = 4 * np.linalg.norm((segments[:, 0] - values.mean(0)) / values.std(0), axis=1)
    assert np.allclose(lengths[far], expected[far], rtol=0.02, atol=0.3)
    assert seen[0].dtype == torch.float32


def test_trajectories_run_from_noise_to_sample_on_shared_axes(tmp_path: Path) -> None:
    data = Moons(n=100).load()
    start, end = 3 * torch.randn(40, 2, generator=torch.Generator().manual_seed(0)), data.train[:40]
    straight = torch.stack([start + (end - start) * u for u in torch.linspace(0, 1, 21)])
    figure = trajectories({"a": straight, "b": straight.numpy()[::4]}, transform=data.transform, lines=6)
    assert figure is not None
    first, second = figure.axes
    assert (first.get_xlim(), first.get_ylim()) == (second.get_xlim(), second.get_ylim())
    for panel, steps in enumerate((20, 5)):
        ends = [points_of(figure, panel, k) for k in range(4)]
        assert np.allclose(np.concatenate([ends[1], ends[0]]), data.transform.finish(start), atol=1e-5)
        assert np.allclose(np.concatenate([ends[3], ends[2]]), data.transform.finish(end), atol=1e-5)
        lines = next(c for c in figure.axes[panel].collections if isinstance(c, LineCollection))
        assert len(lines.get_segments()) == 6 * steps
        order = np.asarray(lines.get_array())
        assert (np.diff(order) >= 0).all()
        assert np.allclose(lines.get_segments()[0][0], data.transform.finish(start)[0], atol=1e-5)
    trajectories({"a": straight}, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert len(opened.convert("RGB").getcolors(2**20) or ()) > 50


def test_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from scoresde.data import Transform; from scoresde.figures import picture\n"
        f"picture(torch.randn(9, 2), Transform('points', (2,)), {str(tmp_path / 'x.png')!r})\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert (tmp_path / "x.png").stat().st_size > 0


def test_figures_show_themselves_in_notebooks_and_are_returned_when_written(tmp_path: Path) -> None:
    data = Moons(n=100).load()
    figure = picture(data.train, data.transform, tmp_path / "points.png", title="points")
    assert figure._repr_png_() == (tmp_path / "points.png").read_bytes()  # type: ignore[attr-defined]
    signatures = [inspect.signature(getattr(scoresde.figures, name)) for name in scoresde.figures.__all__]
    assert [s.return_annotation for s in signatures].count("Figure") == len(signatures) - 1  # a film is a GIF


def quality(values: dict[str, list[float]], horizontal: str = "nfe", seconds: tuple[float, ...] = (1, 2, 4)) -> Figure:
    """The plot of samplers with their values at 5, 10 and 20 evaluations."""
    rows = [
        Row(name, budget=budget, nfe=budget, seconds=[second, second + 1], values={"w": [value]})
        for name, own in values.items()
        for value, budget, second in zip(own, (5, 10, 20), seconds, strict=True)
    ]
    quantity = Quantity("w", direction="lower")
    figure, ((ax,),) = style.panels(1, 1, 4, 4)
    plots._panel(ax, Results("", 10, 2, rows, {"w": quantity}), quantity, horizontal)
    return figure


def test_twelve_samplers_differ_in_colour_and_in_marker() -> None:
    figure = quality({f"s{k}": [3 + k, 2.0, 1.0] for k in range(13)})
    lines = [c.lines[0] for c in figure.axes[0].containers]  # type: ignore[attr-defined]
    assert len({line.get_color() for line in lines[:12]}) == len({line.get_marker() for line in lines[:12]}) == 12
    assert lines[12].get_markerfacecolor() == "white" != lines[0].get_markerfacecolor()


def test_a_sampler_of_another_scale_is_named_at_the_edge_and_does_not_flatten_the_rest() -> None:
    rest = {"a": [1.0, 0.5, 0.2], "b": [2.0, 1.0, 0.2]}
    usual, wide = quality(rest).axes[0], quality({**rest, "bad": [1e5, 3.0, 0.3]}).axes[0]
    assert wide.get_ylim()[1] < 16 * usual.get_ylim()[1]
    assert [text.get_text().strip() for text in wide.texts] == ["\u2191 1e+05"]
    assert not usual.texts


def test_more_evaluations_never_stand_at_fewer_seconds() -> None:
    (drawn,) = quality({"a": [3.0, 2.0, 1.0]}, "seconds", (2.0, 1.0, 4.0)).axes[0].containers
    x = drawn.lines[0].get_xdata()  # type: ignore[attr-defined]
    assert x / x[0] == pytest.approx([1, 1, 4 / 1.5])


def test_transparent_images_are_shown_on_white() -> None:
    image = np.zeros((4, 1, 3))
    image[:, 0, 0], image[:, 0, 1], image[:, 0, 2] = (255, 0, 51, 255), (255, 0, 51, 0), (255, 0, 51, 127.5)
    shown = style.colors(image, 0, 255)
    assert shown.shape == (1, 3, 3)
    assert np.allclose(shown[0], [(1, 0, 0.2), (1, 1, 1), (1, 0.5, 0.6)])
