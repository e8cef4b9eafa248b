"""`scoresde sample` given an observation, from an item, and between two."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde import ExactModel, GaussianMixture, InputError, Sampler, load, sde, solver
from scoresde.cli import asked
from scoresde.cli.asked import Asked
from scoresde.cli.main import main
from scoresde.data import Transform
from scoresde.data.columns import Column
from scoresde.data.single import read_item
from scoresde.figures.latent import interpolation
from scoresde.figures.posterior import inferred
from scoresde.sampling.noised import noised

RUN = Path(__file__).parent / "fixtures/d14582e/run"
ASKED = ["observation=inpaint", "observation.columns=[0]", "sampler.steps=6", "solver=ddim", "n=7", "batch_size=3"]


@pytest.fixture
def sample(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*settings, code=0):
        assert main(["sample", f"run={RUN}", *settings, "out=out"]) == code
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    return call


def stop(*_, **__):
    raise KeyboardInterrupt


def test_a_posterior_is_written_with_its_moments_and_how_well_it_fits(sample):
    np.save("item.npy", np.array([0.5, 0.25]))
    said = sample(*ASKED, "observation.item=item.npy", "observation.sigma_y=0.3", "posterior=mmps")
    summary = json.loads(Path("out/summary.json").read_text())
    samples, kept = np.load("out/samples.npz")["samples"].astype(float), np.load("out/posterior.npz")
    np.testing.assert_allclose(kept["mean"], samples.mean(0), atol=1e-6)
    np.testing.assert_allclose(kept["std"], samples.std(0, ddof=1), atol=1e-6)
    misfit = np.abs(samples[:, 0] - kept["y"][0]).mean() / 0.3
    assert summary["residual"] == pytest.approx(misfit, rel=1e-4)
    assert summary["rmse"] == pytest.approx(float(np.sqrt(np.mean((samples.mean(0) - [0.5, 0.25]) ** 2))), rel=1e-4)
    assert summary["nfe"] == 6
    assert summary["products"] == 6
    assert summary["posterior"]["_target_"].endswith("MMPS")
    assert "sigma_y" in said
    assert (Path("out") / "posterior.png").is_file()


def test_what_was_measured_takes_the_place_of_an_item(sample):
    np.save("y.npy", np.array([0.4]))
    sample(*ASKED, "observation.measured=y.npy")
    first = np.load("out/samples.npz")["samples"]
    np.save("z.npy", np.array([0.4, 9.0]))  # the second value is hidden
    sample(*ASKED, "observation.measured=z.npy")
    np.testing.assert_array_equal(first, np.load("out/samples.npz")["samples"])
    assert "rmse" not in json.loads(Path("out/summary.json").read_text())
    sample(*ASKED, "observation.held_out=3", "batch_size=7")
    assert "rmse" in json.loads(Path("out/summary.json").read_text())


def test_what_was_stopped_goes_on_with_the_same_observation_and_no_other(sample, monkeypatch):
    np.save("y.npy", np.array([0.4]))
    np.save("seen.npy", np.array([1, 0]))
    settings = ["observation=inpaint", "observation.mask=seen.npy", "observation.measured=y.npy", *ASKED[2:]]
    sample(*settings)
    whole = {name: values.tobytes() for name, values in np.load("out/posterior.npz").items()}
    samples = np.load("out/samples.npz")["samples"]
    shutil.rmtree("out")
    add, calls = Asked.add, []

    def stopped(self, x, run):
        calls.append(len(x))
        if len(calls) == 2:
            raise KeyboardInterrupt
        add(self, x, run)

    monkeypatch.setattr(asked, "_MOST", 0)  # the change is beyond what a summary lists
    monkeypatch.setattr(Asked, "add", stopped)
    assert "continue with" in sample(*settings, code=130)
    for name, other in {"y": np.array([0.5]), "seen": np.array([0, 1])}.items():
        before = np.load(f"{name}.npy")
        np.save(f"{name}.npy", other)
        assert "out: out/parts holds parts of other samples; continue those" in sample(*settings, code=2)
        np.save(f"{name}.npy", before)
    sample(*settings)
    assert calls == [3, 3, 3, 3, 1]
    np.testing.assert_array_equal(np.load("out/samples.npz")["samples"], samples)
    assert {name: values.tobytes() for name, values in np.load("out/posterior.npz").items()} == whole


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["observation=inpaint"], "observation: no item is given; give observation.item=FILE"),
        (["observation.item=t.npy"], "observation.item: nothing says what is seen; give observation=inpaint"),
        (["posterior=mmps"], "posterior: nothing is observed"),
        ([*ASKED, "observation.held_out=3", "observation.item=t.npy"], "observation: item and held_out is given"),
        ([*ASKED, "observation.held_out=5000"], "observation.held_out: 5000 is not allowed; there are"),
        ([*ASKED, "observation.item=none.npy"], "observation.item: none.npy is no file"),
        ([*ASKED, "observation.item=long.npy"], r"observation.item: 'long.npy' is not allowed; it has the shape \[3\]"),
        ([*ASKED, "observation.item=nan.npy"], "observation.item: nan.npy holds NaN"),
        ([ASKED[0], "observation.mask=long.npy", "observation.held_out=0"], "observation.mask: .*the items"),
        ([ASKED[0], "observation.columns=[0,1]", "observation.held_out=0"], "observation.columns: all is"),
        (["observation=grey", "observation.held_out=0"], r"observation.event_shape: \[2\] is not allowed"),
        (["start=t.npy"], "start: 't.npy' is not allowed; it has the shape"),
        (["start=item.npy", "strength=1"], "strength"),
        (["start=item.npy", "strength=0.99999"], "strength: .*this SDE has noise of .* to"),
        (["start=item.npy", "interpolate=3"], r"interpolate: 3 needs two items; give start=\[FILE,FILE\]"),
        (["start=item.npy", *ASKED, "observation.held_out=0"], "start: .*leave one out"),
        ([*ASKED, "observation.held_out=0", "observation.sigma_y=0", "posterior=daps"], "observation.sigma_y: 0"),
        ([*ASKED, "observation.held_out=0", "observation.sigma_y=0", "posterior=dps"], None),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_nothing_is_written(sample, settings, message):
    for name, values in {"t": np.ones((2, 2)), "long": np.ones(3), "nan": [1, np.nan], "item": [0.5, 0.25]}.items():
        np.save(f"{name}.npy", values)
    if message is None:  # methods that do not divide by sigma_y take zero
        sample(*settings)
        return
    said = sample(*settings, code=2)
    assert len(said.strip().splitlines()) == 1
    assert re.search(message, said), said
    assert not Path("out").exists()


def test_items_are_redrawn_from_their_noise(sample):
    for name, values in {"a": [0.5, 0.25], "b": [1.5, -0.25]}.items():
        np.save(f"{name}.npy", values)
    few = ["start=[a.npy,b.npy]", "n=4", "sampler.steps=5", "solver=ddim"]
    sample(*few, "strength=0.02")
    near = np.load("out/samples.npz")["samples"]
    assert np.abs(near - np.array([[0.5, 0.25], [1.5, -0.25]] * 2)).max() < 0.3
    sample(*few, "strength=0.02", "batch_size=1")
    np.testing.assert_allclose(np.load("out/samples.npz")["samples"], near, atol=1e-5)


def test_what_was_stopped_is_not_continued_from_another_item(sample, monkeypatch):
    np.save("a.npy", [0.5, 0.25])
    few = ["start=a.npy", "n=4", "batch_size=2", "sampler.steps=5", "solver=ddim"]
    with monkeypatch.context() as patch:
        patch.setattr(Transform, "finish", stop)
        sample(*few, code=130)
    np.save("a.npy", [1.5, -0.25])
    assert "out: out/parts holds parts of other samples" in sample(*few, code=2)
    np.save("a.npy", [0.5, 0.25])
    sample(*few)


def test_between_two_items_lies_a_great_circle(sample):
    np.save("a.npy", [0.5, 0.25])
    np.save("b.npy", [1.5, -0.25])
    sample("start=[a.npy,b.npy]", "interpolate=5", "sampler.steps=60")
    found, summary = np.load("out/samples.npz")["samples"], json.loads(Path("out/summary.json").read_text())
    ends = np.array([[0.5, 0.25], [1.5, -0.25]])
    error = np.sqrt(np.mean((found[[0, -1]] - ends) ** 2))
    assert summary["round_trip"] == pytest.approx(error, rel=1e-3, abs=1e-6)
    assert error < 0.02
    assert (summary["start"], summary["n"], summary["seed"]) == (["a.npy", "b.npy"], 5, 0)
    z = load(RUN).encode(torch.as_tensor(found.astype(float)))
    angles = torch.rad2deg(torch.nn.functional.cosine_similarity(z[:1], z, dim=1).clamp(-1, 1).arccos())
    assert angles[-1] == pytest.approx(summary["angle"], abs=1)
    np.testing.assert_allclose(np.diff(angles), summary["angle"] / 4, atol=1.5)


@pytest.mark.parametrize("name", ["vp", "rectified", "edm"])
def test_the_strength_is_the_share_of_the_noise(name):
    model = ExactModel(GaussianMixture([1.0], [[0.0, 0.0]], 4 * torch.eye(2)[None]), sde(name))
    model.sigma_data = 2.0
    x, at = noised(model, torch.full((1, 2), 3.0), 0.4, range(4000))
    alpha, sigma, _ = model.levels(at)
    assert float(sigma / (2 * alpha + sigma)) == pytest.approx(0.4, abs=1e-6)
    assert float((x - 3 * alpha).std()) == pytest.approx(float(sigma), rel=0.03)
    again = noised(model, torch.full((1, 2), 3.0), 0.4, range(10, 12))[0]
    torch.testing.assert_close(again, x[10:12])
    found = Sampler(solver("ddim"), steps=40).sample(model, start=x, at=at).x  # from the level to clean data
    assert found.isfinite().all()


def test_items_are_read_as_their_data_are_written(tmp_path):
    transform = Transform("image", (3, 4, 6), 8.0, 8.0, low=0.0, high=16.0, levels=17)
    levels = np.random.default_rng(0).integers(0, 17, (3, 4, 6))
    from scoresde.data.pixels import image_of

    image_of(levels.astype(np.float32), transform).save(tmp_path / "item.png")
    found = read_item(str(tmp_path / "item.png"), "key", transform)
    np.testing.assert_allclose(found, levels, atol=0.04)
    Image.new("RGB", (12, 8), (255, 0, 0)).save(tmp_path / "large.png")  # covers the items, as in a folder
    assert read_item(str(tmp_path / "large.png"), "key", transform)[:, 0, 0].tolist() == [16, 0, 0]
    mean = image_of(np.full((3, 4, 6), 127.6, np.float32), Transform.of_levels((3, 4, 6)))  # no level of its own
    assert np.asarray(mean).ravel().tolist() == [128] * 72
    with pytest.raises(InputError, match=r"key: .*large\.png.*shape"):
        read_item(str(tmp_path / "large.png"), "key", transform, (3, 4, 6))


@pytest.mark.parametrize("kind", ["image", "series", "table"])
def test_pictures_show_all_that_is_known(kind, tmp_path):
    event = {"image": (3, 8, 8), "series": (2, 12), "table": (4,)}[kind]
    transform = Transform("image" if kind == "image" else "table", event)
    mean, seen = np.zeros(event), np.full(event, np.nan)
    seen.flat[0] = 1.0
    found = {"mean": mean, "spread": mean + 1, "truth": mean, "observation": seen}
    figure = inferred(np.random.default_rng(0).normal(size=(5, *event)), found, transform, tmp_path / "p.png")
    titles = [ax.get_title(loc="left").partition(",")[0] for ax in figure.axes]
    if kind == "image":
        assert titles == ["truth", "observation", "samples", "mean", "spread"]
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_a_category_is_drawn_as_shares_of_its_texts():
    columns = (Column("age", "integer"), Column("color", "category", ("blue", "red")))
    transform = Transform("table", (3,), names=("age", "color=blue", "color=red"), columns=columns)
    samples = np.array([[30, 0.9, 0.2], [31, 0.4, 0.5], [32, 0.8, 0.1]])
    found = {"mean": samples.mean(0), "spread": samples.std(0), "truth": np.array([30, 1.0, 0.0])}
    found["observation"] = np.array([30.4, np.nan, np.nan])
    ages, colors = inferred(samples, found, transform).axes
    assert [ax.get_xlabel() for ax in (ages, colors)] == ["age", "color"]
    assert [bar.get_height() for bar in colors.patches] == [2, 1]
    assert [text.get_text() for text in colors.get_xticklabels()] == ["blue", "red"]
    assert len(colors.lines) == 1  # the truth; a mean of texts is none
    assert len(ages.lines) == 3


@pytest.mark.parametrize("event", [(1, 8, 8), (2, 12), (5,), (2,)])
def test_an_interpolation_lies_within_its_frame(event):
    x = torch.randn(1, 6, *event, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 9, 9, 9, 9, 1]).view(
        1, 6, *(1,) * len(event)
    )
    transform = Transform("image" if len(event) == 3 else "points" if event == (2,) else "table", event)
    figure = interpolation(x, x[0, [0, -1]], transform)
    for ax in figure.axes if len(event) < 3 else ():
        (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
        drawn = np.concatenate([line.get_xydata() for line in ax.lines])
        assert ((drawn >= [left, low]) & (drawn <= [right, high])).all()
