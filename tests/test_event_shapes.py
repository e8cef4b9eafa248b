"""Every shape of an event from the command line to its pictures: series as lines, volumes as slices, images."""

import contextlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import scoresde
from scoresde.cli.main import main
from scoresde.figures import style

RNG = np.random.default_rng(0)
TINY = ["debug=tiny", "logger=none", "data=array", "data.path=x.npy", "trainer.steps=2", "n=6", "run=r", "metrics={}"]
TINY += ["~samplers.predictor_corrector", "~samplers.dopri5"]
UNET = ["model=unet", "model.net.channels=8", "model.net.embedding=8"]
# what is in the file, and the shape of an event
SHAPES = {
    "table": (RNG.normal(size=(40, 3)), (3,), ["model=mlp"]),
    "series": (RNG.normal(size=(40, 2, 51)), (2, 51), UNET),
    "image": (RNG.integers(0, 256, (40, 9, 7, 3), dtype=np.uint8), (3, 9, 7), UNET),
    "volume": (RNG.normal(size=(40, 1, 6, 7, 8)), (1, 6, 7, 8), UNET),
}


@pytest.fixture(scope="module", params=SHAPES)
def drawn(request, tmp_path_factory):
    """A run of this shape, its samples with a path, and the figures that were drawn, by the names of files."""
    folder, figures = tmp_path_factory.mktemp(request.param), {}
    values, event, model = SHAPES[request.param]
    np.save(folder / "x.npy", values)
    finish = style.finished

    def spied(figure: Figure, path: Path | None, title: str | None) -> Figure:
        figures[Path(path or "").name] = figure
        return finish(figure, path, title)

    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "finished", spied)
        assert main(["train", *TINY, *model]) == 0
        assert main(["sample", "run=r", "n=12", "sampler.steps=3", "sampler.path=true", "out=o"]) == 0
    return request.param, event, folder, figures


def lines(figure: Figure) -> list[bytes]:
    return [np.asarray(line.get_ydata(), np.float64).tobytes() for ax in figure.axes for line in ax.get_lines()]


def test_each_shape_is_trained_sampled_and_drawn_as_what_it_is(drawn):
    kind, event, folder, figures = drawn
    run = scoresde.load(folder / "r")
    samples = np.load(folder / "o" / "samples.npz")["samples"]
    assert run.event_shape == samples.shape[1:] == event
    assert np.isfinite(samples).all()
    assert samples.dtype == SHAPES[kind][0].dtype
    assert (run.sample(12, steps=3).data == samples).all()
    for name in ("samples.png", "strip.png"):
        with Image.open(folder / "o" / name) as image:
            assert len(image.convert("RGB").getcolors(2**20) or ()) > 20
    assert (folder / "o" / "film.gif").is_file() == (kind in ("image", "volume"))
    picture, strip = figures["samples.png"], figures["strip.png"]
    if kind == "series":
        expected = [samples[k, channel].astype(float).tobytes() for channel in range(2) for k in range(10)]
        assert lines(picture) == expected
        # of the strip each row ends in its sample, to the rounding of a second run
        across = len(strip.axes) // 5
        ends = np.array([np.frombuffer(y) for y in lines(strip)[across - 1 :: across]])
        assert np.allclose(ends, samples[:5, 0], rtol=1e-3, atol=1e-3)
    elif kind in ("image", "volume"):
        check_sheet(np.asarray(picture.axes[0].images[0].get_array()), kind, samples)
    else:
        assert len(picture.axes) == 3


def check_sheet(sheet: np.ndarray, kind: str, samples: np.ndarray) -> None:
    """The first tile is the first sample: an image as it is, of a volume the middle slice and no other."""
    slices = [samples[0]] if kind == "image" else [plane[None] for plane in samples[0, 0]]
    height, width = slices[0].shape[1:]
    zoom = max(1, 44 // max(height, width))
    tile = np.moveaxis(sheet[: zoom * height : zoom, : zoom * width : zoom], 2, 0).astype(float)
    if kind == "image":
        assert (tile == samples[0]).all()
        return
    alike = [np.corrcoef(tile[0].ravel(), plane.ravel())[0, 1] for plane in slices]
    assert int(np.argmax(alike)) == len(slices) // 2
    assert max(alike) > 0.98
    assert all((a == b).all() for a, b in itertools.pairwise(tile))
