"""The way from noise to data: what is kept of it, and that the pictures show it."""

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from PIL import Image
from support import SDES, exact_model, sde_named, solver_named

from scoresde import ExactModel, InputError, Sampler
from scoresde.cli.path import Moments, follow
from scoresde.data import Digits, Transform
from scoresde.figures import film, flow, strip


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("solver", ["ancestral", "scipy"])
def test_moments_lead_from_the_prior_to_the_samples(solver, sde):
    model = exact_model(sde_named(sde))
    sampler = Sampler(solver_named(solver), steps=30)
    moments = follow(sampler, model, (2,), 200, seed=3)
    drawn = sampler.sample(model, (2,), 200, seed=3).x
    torch.testing.assert_close(moments.x[-1], drawn, rtol=1e-5, atol=1e-5)
    assert moments.labels[-1] == "data"
    assert moments.angles == sorted(moments.angles, reverse=True)
    # the spread of what is drawn is that of noise or data at every moment; the prior of VE alone is 50 times as wide
    spread = moments.x.std(dim=(1, 2))
    assert spread.max() < 1.6
    assert spread.min() > 0.6


def test_memory_is_bounded_and_both_ends_are_kept():
    model = exact_model(sde_named("vp"))
    sampler = Sampler(solver_named("ddim"), steps=1001, denoise=False)
    moments = follow(sampler, model, (2,), 3, seed=0)
    assert 60 <= len(moments.x) <= 122
    # even in the steps of the solver, here in lam = -log tan(angle), but for the very last one
    lam = -np.log(np.tan(moments.angles))
    np.testing.assert_allclose(np.diff(lam)[:-1], np.diff(lam)[0], rtol=1e-4)
    assert lam[0] == pytest.approx(float(model.sde.lam(1.0)))
    assert lam[-1] == pytest.approx(float(model.sde.lam(model.sde.t_min)))
    torch.testing.assert_close(moments.x[-1], sampler.sample(model, (2,), 3).x)  # alpha = 1 there


def test_few_moments_are_spread_over_the_angle():
    angles = [1.5, 1.49, 1.48, 1.2, 0.9, 0.6, 0.3, 0.02, 0.01, 0.0]
    moments = Moments(torch.arange(10.0), angles, [str(k) for k in range(10)])
    assert moments.spread(6).angles == [1.5, 1.2, 0.9, 0.6, 0.3, 0.0]
    assert moments.spread(6).x.tolist() == [0, 3, 4, 5, 6, 9]
    assert moments.spread(99).angles == angles


@pytest.fixture(scope="module")
def digits():
    """The way to digits of the ideal denoiser of the training data, which ends in some of them."""
    data = Digits().load()
    model = ExactModel(data.train, sde_named("ve"))
    return data, follow(Sampler(solver_named("heun"), steps=24), model, data.event_shape, 9, seed=0)


def test_a_film_begins_with_noise_and_ends_with_data(digits, tmp_path):
    data, moments = digits
    film(moments.x, moments.labels, data.transform, tmp_path / "film.gif")
    frames = []
    with Image.open(tmp_path / "film.gif") as opened:
        assert opened.n_frames == len(moments.x) == 25
        for k in range(opened.n_frames):
            opened.seek(k)
            frames.append(np.asarray(opened.convert("L"), dtype=float)[34:])
    zoom, gap, margin = 5, 5, 12
    known = data.transform.finish(data.train)[:, 0].reshape(len(data.train), -1) / 16 * 255

    def distances(frame):
        tiles = []
        for k in range(9):
            top, left = (k // 3) * (8 * zoom + gap), margin + (k % 3) * (8 * zoom + gap)
            tiles.append(frame[top + 2 : top + 8 * zoom : zoom, left + 2 : left + 8 * zoom : zoom].ravel())
        return np.sqrt(((np.stack(tiles)[:, None] - known[None]) ** 2).mean(-1)).min(1)

    assert distances(frames[-1]).max() < 12  # grey levels; a GIF rounds colours
    assert distances(frames[0]).min() > 60
    # noise has no neighbours that agree; digits have
    assert abs(np.corrcoef(moments.x[0][:, 0, :, :-1].ravel(), moments.x[0][:, 0, :, 1:].ravel())[0, 1]) < 0.15
    assert len({f.tobytes() for f in frames}) > 20


def test_a_strip_has_a_row_for_each_sample_and_a_column_for_each_moment(digits):
    data, moments = digits
    few = moments.spread(6)
    figure = strip(few.x, few.labels, data.transform, title="digits")
    sheet = np.asarray(figure.axes[0].images[0].get_array())[..., 0]
    zoom, gap = 9, 5
    for row in range(5):
        for column in range(6):
            top, left = row * (8 * zoom + gap), column * (8 * zoom + gap)
            shown = sheet[top : top + 8 * zoom, left : left + 8 * zoom]
            image = data.transform.finish(few.x[column])[row, 0]
            assert (shown == np.kron(np.rint(image / 16 * 255), np.ones((zoom, zoom)))).all()
    assert [t.get_text() for t in figure.axes[0].texts] == few.labels
    assert few.labels[0] == "noise 50"


def way(*shape, m=6, n=40):
    x = torch.randn(m, n, *shape, generator=torch.Generator().manual_seed(0))
    return Moments(x, list(np.linspace(1.5, 0, m)), [f"at {k}" for k in range(m)])


def test_pairs_of_numbers_are_clouds_on_shared_axes(tmp_path):
    moments, transform = way(2), Transform("points", (2,), (1.0, 2.0), 3.0)
    figure = strip(moments.x, moments.labels, transform)
    axes = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in axes] == moments.labels
    assert len({ax.get_xlim() for ax in axes}) == 1
    for ax, x in zip(axes, moments.x, strict=True):
        np.testing.assert_allclose(np.asarray(ax.collections[0].get_offsets()), transform.finish(x), atol=1e-6)
    film(moments.x, moments.labels, transform, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as opened:
        assert opened.n_frames == 6
        assert opened.info["loop"] == 0


def test_ways_of_points_run_from_noise_to_sample():
    moments, transform = way(2), Transform("points", (2,), (1.0, 2.0), 3.0)
    figure = flow(moments.x, transform, lines=10)
    ax = figure.axes[0]
    lines = next(c for c in ax.collections if isinstance(c, LineCollection))
    cloud, noise, sample = (c for c in ax.collections if not isinstance(c, LineCollection))
    data = np.stack([transform.finish(x) for x in moments.x])
    np.testing.assert_allclose(cloud.get_offsets(), data[-1], atol=1e-5)
    np.testing.assert_allclose(noise.get_offsets(), data[0, :10], atol=1e-5)
    np.testing.assert_allclose(sample.get_offsets(), data[-1, :10], atol=1e-5)
    expected = np.stack([data[:-1, :10], data[1:, :10]], axis=2).reshape(-1, 2, 2)
    np.testing.assert_allclose(np.stack(lines.get_segments()), expected, atol=1e-5)


def test_series_and_tables_have_a_strip_and_no_film(tmp_path):
    moments, transform = way(2, 30), Transform("table", (2, 30))
    figure = strip(moments.x, moments.labels, transform)
    drawn = np.array([ax.lines[0].get_ydata() for ax in figure.axes]).reshape(5, 6, 30)
    np.testing.assert_allclose(drawn, moments.x[:, :5, 0].swapaxes(0, 1).numpy())
    moments, transform = way(3), Transform("table", (3,), names=("a", "b", "c"))
    figure = strip(moments.x, moments.labels, transform)
    axes = np.array(figure.axes).reshape(3, 6)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["a", "b", "c"]
    for row in range(3):
        for k in range(6):
            heights = [p.get_height() for p in axes[row, k].patches]
            middle = sum((p.get_x() + p.get_width() / 2) * p.get_height() for p in axes[row, k].patches)
            assert middle / sum(heights) == pytest.approx(float(moments.x[k, :, row].mean()), abs=0.35)
    with pytest.raises(InputError, match="only images and pairs of numbers"):
        film(moments.x, moments.labels, transform, tmp_path / "film.gif")
    assert not (tmp_path / "film.gif").exists()
