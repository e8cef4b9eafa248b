"""Pictures show what they were given: pixels, points, counts and directions are read back from the drawing."""

import inspect
import math
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
from scoresde.figures import fields, film, picture, plots, score_field, strip, style, trajectories
from scoresde.results import Quantity, Results, Row

pytestmark = pytest.mark.usefixtures("whole_figures")


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


# ---- axes ----


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_is_not_known_of_an_image_has_a_color_that_no_grey_has(channels: int) -> None:
    image = np.full((channels, 2, 2), 0.5)
    image[0, 0, 1] = np.nan
    shown = style.colors(image, 0.0, 1.0)
    assert shown[0, 1].tolist() == list(style.HIDDEN)
    assert not (shown.reshape(-1, 3)[[0, 2, 3]] == style.HIDDEN).all(1).any()
    assert max(style.HIDDEN) - min(style.HIDDEN) > 0.2


def test_a_reference_has_its_own_name_and_gives_the_axis() -> None:
    transform, x = table(np.random.default_rng(0).normal(size=(50, 3)))
    figure = picture(x, transform, reference=10 + x, real="start")
    assert figure.axes[0].get_xlim()[0] > 0
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["start", "samples"]


def test_an_axis_holds_all_but_the_extreme_thousandth_and_a_margin() -> None:
    assert style.span(np.linspace(0, 1, 1001), 0.1) == pytest.approx((0.0005 - 0.0999, 0.9995 + 0.0999))
    assert style.span(np.array([3.0, np.nan, 3.0, np.inf]), 0.1) == (1.5, 4.5)
    assert style.span(np.zeros(4), 0.1) == (-0.5, 0.5)
    assert style.span(np.array([np.nan]), 0.1) == (-1, 1)
    x, y = style.square(np.array([[0.0, 10.0], [4.0, 12.0]] * 1000), 0.25)
    assert (*x, *y) == pytest.approx((-1, 5, 8, 14))  # of one length, around both middles


def test_black_and_white_are_the_bounds_of_the_data_or_the_range_of_the_ruler() -> None:
    image, volume = Transform("image", (1, 1, 1)), Transform("table", (1, 1, 1))
    values = np.array([np.nan, *np.linspace(-2, 3, 1001)])
    assert style.greys(values, image) == (-2, 3)
    assert style.greys(values, volume) == pytest.approx((-2 + 0.025, 3 - 0.025))
    assert style.greys(values, Transform("image", (1, 1, 1), low=0.0)) == (0, 3)
    assert style.greys(values, Transform("image", (1, 1, 1), high=9.0)) == (-2, 9)


@pytest.mark.parametrize(
    ("n", "side", "across", "sheet"),
    [(7, 8, None, (130, 130)), (120, 8, None, (445, 445)), (9, 300, None, (910, 910)), (20, 200, None, (610, 610)),
     (1, 8, None, (40, 40)), (6, 8, 2, (130, 85))],
)  # fmt: skip
def test_a_sheet_has_as_many_images_as_fit_into_a_square(n, side, across, sheet) -> None:
    made = style.tiled(np.ones((n, 1, side, side)), 0, 1, across)
    assert made.shape == (*sheet, 3)
    assert set(np.unique(made)) <= {107, 255}  # images and the grey between them


def test_a_sheet_lies_on_its_canvas_pixel_for_pixel() -> None:
    transform, images = Transform("image", (1, 8, 8), low=-1.0, high=1.0), torch.zeros(9, 1, 8, 8)
    for title, header in ((None, 34), ("title", 64)):
        figure = picture(images, transform, reference=images[:4], title=title)
        boxes = [ax.get_window_extent().bounds for ax in figure.axes]
        assert figure.bbox.bounds[2:] == pytest.approx((18 + 130 + 18 + 85 + 18, header + 130 + 18))
        assert boxes[0] == pytest.approx((18, 18, 130, 130))
        assert boxes[1] == pytest.approx((166, 63, 85, 85))  # both hang from the same line
    for columns, width in ((3, 500), (8, 8 * 77 - 5 + 36)):
        figure = strip(images.expand(columns, 9, 1, 8, 8), ["a"] * columns, transform)
        across = columns * 77 - 5
        assert figure.bbox.bounds[2:] == pytest.approx((width, 5 * 77 - 5 + 82 + 18))
        assert figure.axes[0].get_window_extent().bounds == pytest.approx(((width - across) / 2, 18, across, 380))
        places = [text.get_position()[0] for text in figure.axes[0].texts]
        assert places == pytest.approx([36 + 77 * k for k in range(columns)])  # above the middles of the columns


def test_a_film_shows_its_ends_longer_and_its_sheet_below_the_label(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (5, 9, 1, 8, 8), dtype=np.uint8)
    transform = Transform.of_levels((1, 8, 8))
    moments = torch.stack([transform.encode(x) for x in levels])
    film(moments, list("abcde"), transform, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as opened:
        assert opened.size == (154, 176)
        durations = []
        for k in range(opened.n_frames):
            opened.seek(k)
            durations.append(opened.info["duration"])
            sheet = np.asarray(opened.convert("L"), dtype=float)[34:-12, 12:-12]
            assert abs(sheet - style.tiled(levels[k], 0, 255)[..., 0]).max() <= 2  # a GIF rounds colours
    assert durations == [500, 70, 70, 70, 1800]


@pytest.mark.parametrize(
    ("values", "floor", "scale", "limits"),
    [
        ([1.0, 2.0, 4.0], 0.5, "log", (0.5 / 1.6, 6)),
        ([1.0, 4.0], math.inf, "log", (1 / 1.6, 6)),
        ([-0.01, 0.03, 1.0], math.inf, "symlog", (-0.12, 1.5)),
        ([-0.5, 0.03, 4.0], math.inf, "symlog", (-1.2, 6)),
        ([0.0, 0.002, 1.0], math.inf, "symlog", (-0.001, 1.5)),
        ([1e-9, 0.0, 8.0], math.inf, "symlog", (-1e-5, 12)),
        ([-2.0, -1.0], 3.0, "linear", None),
    ],
)
def test_an_axis_of_values_is_logarithmic_with_a_linear_piece_around_zero(values, floor, scale, limits) -> None:
    _, ((ax,),) = style.panels(1, 1, 4, 4)
    plots._scale(ax, values, floor)
    assert ax.get_yscale() == scale
    if limits is not None:
        assert ax.get_ylim() == pytest.approx(limits)


def test_ticks_are_budgets_and_other_evaluations_that_do_not_touch_them() -> None:
    _, ((ax,),) = style.panels(1, 1, 4, 4)
    plots._ticks(ax, [Row("a", budget=b, nfe=n) for b, n in ((10, 9), (5, 5), (20, 20), (None, 11.4), (None, 40.4))])
    assert ax.get_xticks().tolist() == [5, 10, 20, 40]
    plots._ticks(ax, [Row("a", budget=b, nfe=n) for b, n in ((10, 8.4), (None, 12), (None, 11.5))])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10", "8", "12"]


def test_the_band_is_the_interval_of_the_floor() -> None:
    rows, floors = [Row("a", budget=5, nfe=5, values={"w": [2.0, 3.0]})], {"w": [1.0, 1.2, 1.5]}
    results = Results("", 10, 2, rows, {"w": Quantity("w", direction="lower")}, floors)
    _, ((ax,),) = style.panels(1, 1, 4, 4)
    lines = plots._panel(ax, results, results.quantities["w"], "nfe")
    assert [*lines] == ["a", "real data (floor)"]
    floor = results.floor("w")
    assert floor is not None
    (band,) = ax.patches
    assert (band.get_y(), band.get_height()) == pytest.approx((floor.low, 2 * floor.half))  # type: ignore[attr-defined]
    assert lines["real data (floor)"].get_ydata() == pytest.approx([floor.mean] * 2)
    low, high = np.array(lines["a"].lines[2][0].get_segments())[0][:, 1]
    assert (low, high) == pytest.approx((rows[0].interval("w").low, rows[0].interval("w").high))


def test_the_panels_are_those_of_the_ranking_and_then_others_of_a_direction() -> None:
    keys = {f"q{k}": Quantity(f"q{k}", direction="lower", ranks=k == 4) for k in range(6)}
    keys |= {"none": Quantity("none"), "long": Quantity("long", direction="lower", brief=False)}
    row = Row("a", values={key: [1.0] for key in keys})
    assert [q.key for q in plots.panels(Results("", 1, 1, [row], keys))] == ["q0", "q4", "q1", "q2"]
    assert [q.key for q in plots.panels(Results("", 1, 1, [Row("a", values={"none": [1.0]})], keys))] == ["none"]


def test_the_axes_of_a_strip_hold_its_first_and_its_last_moment() -> None:
    for shape, x_axis in (((1, 30), False), ((3,), True), ((2,), True)):
        moments = torch.stack([k * torch.linspace(0, 1, 60).reshape(20, 3)[:, :1].expand(20, 30) for k in (9.0, 1, -4)])
        moments = moments[..., : shape[-1]].reshape(3, 20, *shape)
        figure = strip(moments, ["a", "b", "c"], Transform("table", shape))
        for ax in (ax for ax in figure.axes if ax.get_visible()):
            low, high = ax.get_xlim() if x_axis else ax.get_ylim()
            assert low < -3.7
            assert high > 8.5


def test_paths_are_dark_at_the_noise_and_light_at_the_data() -> None:
    _, ((ax,),) = style.panels(1, 1, 4, 4)
    style.paths(ax, np.random.default_rng(0).random((5, 2, 2)), 0.5)
    (lines,) = ax.collections
    assert np.asarray(lines.get_array()) == pytest.approx(np.repeat([0, 0.3, 0.6, 0.9], 2))
    assert lines.get_clim() == (0, 1)


def test_long_trajectories_keep_both_ends() -> None:
    given = np.arange(1001.0)[:, None, None] + np.zeros((1, 500, 2))
    kept = fields._thinned(given, None)
    assert kept.shape == (400, 400, 2)
    assert (kept[0, 0, 0], kept[-1, 0, 0]) == (0, 1000)
    assert np.ptp(np.diff(kept[:, 0, 0])) <= 1  # even


def test_colours_of_a_score_leave_out_its_extremes() -> None:
    transform = Transform("points", (2,))
    figure = score_field([("a", lambda x: x)], transform)
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim() == (-3, 3)
    x, y = np.meshgrid(*[np.linspace(-3, 3, 60)] * 2)
    low, high = np.quantile(np.hypot(x, y), [0.02, 0.995])
    lines = next(c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    assert (lines.norm.vmin, lines.norm.vmax) == pytest.approx((low, high), rel=1e-5)
