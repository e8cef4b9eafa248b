"""`scoresde evaluate`: one page about a run, samples from files, cards that differ, and one line for each mistake."""

import contextlib
import json
import shutil

import numpy as np
import pytest
import torch

import scoresde
from scoresde import Sampler, runs
from scoresde.cli.main import main
from scoresde.comparison.collect import collected
from scoresde.data import Transform
from scoresde.likelihood import NegativeLogLikelihood, Outliers
from scoresde.metrics import FrechetDistance, RandConv, SlicedWasserstein
from scoresde.results import Measurement, Metric, ModelMetric, Needs, Quantity, Results, Row
from scoresde.results.sheet import judged
from scoresde.runs.listing import entries
from scoresde.runs.saved import Saved
from scoresde.sampling import Samples
from scoresde.workflows.evaluate import Evaluation

TRAIN = ["debug=tiny", "model=mlp", "model.net.width=8", "data=array", "logger=none", "n=6", "trainer.steps=2"]
TRAIN += ["~samplers.predictor_corrector", "~samplers.dopri5"]
QUICK = ["solver=ddim", "sampler.steps=3", "logger=none", "n=20"]
W = "metrics=[distances]"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run of points; not to be changed."""
    folder = tmp_path_factory.mktemp("home")
    np.save(folder / "t.npy", np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32))
    with contextlib.chdir(folder):
        assert main(["train", *TRAIN, f"data.path={folder / 't.npy'}", "run=run"]) == 0
    return folder


@pytest.fixture
def here(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home / "run", tmp_path / "run")
    return tmp_path


def stored(folder):
    return json.loads((folder / "results.json").read_text())


class Depth(ModelMetric):
    """A metric of the model, with a picture."""

    quantities = (Quantity("depth", "deep", "depth of the model", "", "m", "lower"),)

    def __call__(self, model, dataset, place):
        assert isinstance(model, scoresde.Model)
        if place is not None:
            place.mkdir(parents=True)
            (place / "a.png").write_bytes(b"picture")
        return {"depth": Measurement(float(len(dataset.heldout)), 3.0, 0.5)}


class Greedy(Depth):
    def needs(self):
        return Needs(heldout=10_000)


def test_a_page_with_everything(here, capsys):
    assert main(["evaluate", "run=run", W, *QUICK, "out=a"]) == 0
    out = capsys.readouterr().out
    assert "sliced W" in out
    assert "real data by" in out
    assert {p.name for p in (here / "a").iterdir()} == {"report.html", "results.csv", "results.json", "samples.png"}
    (row,) = stored(here / "a")["rows"]
    assert (row["name"], row["nfe"], row["steps"]) == ("ddim 3", 3, 3)
    text = (here / "a" / "report.html").read_text()
    assert "sliced Wasserstein distance to real data" in text
    assert "data:image/png" in text
    run = runs.load("run")
    drawn = run.sample(20, solver="ddim", steps=3)
    wanted = SlicedWasserstein()(drawn.x, run.dataset())["sliced_wasserstein"]
    assert row["values"]["sliced_wasserstein"] == [wanted]


def test_saved_samples_have_the_values_of_fresh_ones(here, capsys):
    """Those of a folder name their run; an array of anybody's is in data units."""
    assert main(["sample", "run=run", "solver=ddim", "sampler.steps=3", "n=20", "out=drawn"]) == 0
    assert main(["evaluate", "samples=drawn", W, "logger=none", "out=a"]) == 0
    np.save("mine.npy", np.load("drawn/samples.npz")["samples"])
    assert main(["evaluate", "run=run", "samples=mine.npy", W, "logger=none", "n=20", "out=b"]) == 0
    assert main(["evaluate", "run=run", W, *QUICK, "out=c"]) == 0
    (a,), (b,), (c,) = (stored(here / name)["rows"] for name in "abc")
    assert a["values"] == b["values"]
    for key, (value,) in c["values"].items():
        assert a["values"][key] == [pytest.approx(value, rel=1e-5, abs=1e-6)]
    assert [row["name"] for row in (a, b, c)] == ["ddim 3", "mine.npy", "ddim 3"]
    np.savez("drawn/samples.npz", samples=np.load("mine.npy")[:19])
    assert main(["evaluate", "samples=drawn", W, "logger=none", "out=d"]) == 2
    assert "says n = 20, and drawn/samples.npz holds 19" in capsys.readouterr().err


def test_weights_and_biases_gets_table_values_and_pictures(here, monkeypatch):
    from scoresde.loggers import WandbLogger

    seen = []
    monkeypatch.setattr(Evaluation, "_picture", lambda self, row, folder: [folder / "samples.png"])
    monkeypatch.setattr("scoresde.workflows.evaluate.page", lambda *arguments: "")
    for name in ("start", "table", "summary", "picture", "finish"):
        monkeypatch.setattr(WandbLogger, name, lambda self, *a, name=name, **k: seen.append((name, a)))
    assert main(["evaluate", "run=run", W, *QUICK[:2], "n=20", "out=a", "logger=wandb"]) == 0
    assert [name for name, _ in seen] == ["start", "table", "summary", "picture", "finish"]
    (values,) = dict(seen)["summary"]
    assert {key: [value] for key, value in values.items()} == stored(here / "a")["rows"][0]["values"]


def test_an_evaluation_of_a_run_is_listed_and_stays_out_of_a_table_of_trainings(here, capsys, monkeypatch):
    monkeypatch.setattr(Evaluation, "_picture", lambda *arguments: ())
    assert main(["evaluate", "run=run", W, *QUICK]) == 0
    (entry,) = (e for e in entries(here) if e.kind == "evaluation")
    assert entry.path.parent == here / "run" / "evaluations"
    assert "real data by" in entry.about
    assert [row.name for row in collected(here / "run", {}, ()).rows] != ["ddim 3"]
    assert [row.name for row in collected(here / "run" / "evaluations", {}, ()).rows] == ["ddim 3"]


def test_metrics_of_the_model_stand_beside_those_of_samples(here):
    metrics = {"w": SlicedWasserstein(20), "depth": Depth()}
    sampler = Sampler(scoresde.solver("ddim"), steps=3)
    found = scoresde.evaluate("run", metrics, sampler=sampler, n=20, folder="a")
    (row,) = found.rows
    assert row.values["depth"] == [20.0]
    assert (row.halves["depth"], found.floors["depth"]) == (0.5, [3.0])
    assert (here / "a" / "depth" / "a.png").is_file()
    assert stored(here / "a")["rows"][0]["values"] == row.values
    alone = scoresde.evaluate("run", [Depth()])  # of which nothing is drawn
    assert [(r.name, list(r.values)) for r in alone.rows] == [("model", ["depth"])]


def test_seeds_make_an_interval_and_other_cards_are_refused(here, capsys, monkeypatch):
    monkeypatch.setattr("scoresde.comparison.output.quality", lambda *arguments: [])
    monkeypatch.setattr(Evaluation, "_picture", lambda *arguments: ())
    own = ["evaluate", "run=run", "metrics=[frechet]", "+metrics.frechet.features.width=2", *QUICK]
    own.append("metrics.frechet.features._target_=scoresde.metrics.RandConv")
    assert main([*own, "seed=0,1", "out=all", "-m"]) == 0
    assert main(["compare", "folder=all", "logger=none", "out=one"]) == 0
    (row,) = stored(here / "one")["rows"]
    assert len(row["values"]["frechet_distance"]) == 2
    assert stored(here / "one")["cards"]["frechet_distance"]["extractor"] == "randconv"
    for change, field in (("+metrics.frechet.features.seed=5", "sha256 is "), ("n=15", "n is 20 in ")):
        assert main([*own, change, "out=all/other"]) == 0
        capsys.readouterr()
        assert main(["compare", "folder=all", "logger=none", "out=two"]) == 2
        assert f"frechet_distance: cards differ: {field}" in capsys.readouterr().err
        shutil.rmtree("all/other")
    assert not (here / "two").exists()


def test_results_keep_their_cards(here):
    metric = FrechetDistance(RandConv(width=2, levels=1))
    found = scoresde.evaluate("run", [metric], sampler=Sampler(scoresde.solver("ddim"), steps=3), n=20)
    again = Results.of_content(json.loads(json.dumps(found.content())), "here")
    assert again.cards == found.cards == {q.key: metric.card(runs.load("run").dataset()) for q in metric.quantities}
    old = found.content()
    del old["cards"]  # as written by older versions
    assert Results.of_content(old, "here").cards == {}


def test_the_verdict_compares_with_the_spread_of_real_data():
    results = Results("r", 10, 1, [Row("a", values={"x": [2.5], "y": [1.9], "z": [1.0]})])
    results.quantities = {k: Quantity(k, direction=d) for k, d in (("x", "lower"), ("y", "higher"), ("z", "lower"))}
    results.floors = {"x": [1.0, 1.1, 0.9], "y": [0.5, 0.6, 0.4], "z": [0.9]}
    worse, same, unknown = judged(results)
    assert (worse, same) == ("Worse than real data by x.", "Not distinguishable from real data by y.")
    assert unknown.endswith("tell: z.")
    results.rows[0].halves["z"] = 0.05
    assert judged(results)[0] == "Worse than real data by x, z."


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "run: not given; give run=FOLDER of a trained run"),
        (["samples=nowhere"], "samples: there is no file nowhere"),
        (["samples=empty", "run=run"], "samples: empty has no samples.npz"),
        (["samples=words.txt", "run=run"], "samples: words.txt is no .npz or .npy file"),
        (["samples=objects.npy", "run=run"], "samples: objects.npy holds Python objects, which are never loaded"),
        (["samples=two.npz", "run=run"], "samples: two.npz holds the arrays a, b; name that of the samples"),
        (["samples=good.npy"], "run: not given, and good.npy does not name one"),
        (["samples=good.npy", "run=run", "n=19"], "n: 19 is not allowed; good.npy holds 20; leave it out"),
        (["samples=wide.npy", "run=run"], "samples: wide.npy holds an array of shape (20, 3), and samples have shape"),
        (["samples=lost.npy", "run=run"], "samples: lost.npy: 2 of 20 samples are not finite, the first is 4"),
        (["samples=texts.npy", "run=run"], "samples: texts.npy holds <U1, not numbers"),
        (["run=nowhere"], "run: there is no folder nowhere"),
        (["run=run", "metrics=[]"], "metrics: "),
        (["run=run", "metrics=[standard,classifier]", *QUICK], "features: these data have no classes"),
        (["run=run", "metrics=[frechet]", "metrics.frechet.features=rand", *QUICK], "metrics.frechet.features: 'rand'"),
        (["run=run", "metrics=[frechet]", "metrics.frechet.features=onnx:no", *QUICK], "features: there is no file no"),
        (["run=run", W, "n=1", "logger=none"], "metrics.energy: needs 2 samples, and there are 1"),
        (["run=run", "sampler.steps=0", "logger=none"], "sampler.steps: 0"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(here, capsys, arguments, line):
    good = np.zeros((20, 2), np.float32)
    np.save("good.npy", good)
    lost = good.copy()
    lost[[4, 9], 1] = np.nan
    for name, array in (("wide", np.zeros((20, 3))), ("lost", lost), ("texts", np.full((20, 2), "a"))):
        np.save(f"{name}.npy", array)
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez("two.npz", a=good, b=good)
    (here / "words.txt").touch()
    (here / "empty").mkdir()
    before = sorted(p for p in here.rglob("*") if p.name != ".lock")
    assert main(["evaluate", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert sorted(p for p in here.rglob("*") if p.name != ".lock") == before


def test_images_in_other_units_or_orders_are_refused():
    transform = Transform.of_levels((1, 8, 8))
    for data, line in (
        (np.full((5, 8, 8, 1), 3, np.uint8), "channels come first"),
        (np.full((5, 8, 8), 3, np.uint8), "expand_dims"),
        (np.full((5, 1, 8, 8), 0.5), "these are in another unit"),
        (np.full((5, 1, 8, 8), 256), "values from 256 to 256, and data units are 0 to 255"),
    ):
        with pytest.raises(scoresde.InputError, match=line):
            Saved("a.npz", data, {}, "samples").encoded(transform)


def test_what_a_model_metric_needs_is_checked_before_anything_is_drawn(here):
    with pytest.raises(scoresde.InputError, match=r"metrics.Greedy: needs 10000 held-out items, and there are 20"):
        scoresde.evaluate("run", [SlicedWasserstein(), Greedy()])
    with pytest.raises(scoresde.InputError, match="metrics: depth is measured by two metrics"):
        scoresde.evaluate("run", {"a": Depth(), "b": Depth()})


def test_what_a_model_metric_cannot_measure_is_refused_before_another_takes_its_time(here, monkeypatch):
    monkeypatch.setattr(Depth, "__call__", lambda *_: pytest.fail("measured"))
    for metric, line in (
        (NegativeLogLikelihood(bits=True), "dequantisation: these data are not quantised"),
        (NegativeLogLikelihood(at=2.0), "at: 2.0 is not allowed"),
        (Outliers(against="nowhere.npy"), "against: nowhere.npy does not exist"),
    ):
        with pytest.raises(scoresde.InputError, match=line):
            scoresde.evaluate("run", [Depth(), metric], folder="a")
    assert not (here / "a").exists()


@pytest.mark.parametrize(("cause", "stays"), [(None, False), (OSError("full"), True)])
def test_only_a_full_disk_leaves_what_was_measured(here, monkeypatch, cause, stays):
    def fails(metric, model, dataset, place):
        place.mkdir(parents=True)
        (place / "part").touch()
        raise scoresde.InputError("x: bad") from cause

    monkeypatch.setattr(Depth, "__call__", fails)
    with pytest.raises(scoresde.InputError, match="x: bad"):
        scoresde.evaluate("run", [Depth()], folder="new")
    assert (here / "new").exists() == stays
    (here / "old").mkdir()
    (here / "old" / "mine").touch()
    with pytest.raises(scoresde.InputError, match="x: bad"):
        scoresde.evaluate("run", [Depth()], folder="old")
    assert (here / "old" / "mine").exists()


def test_drawn_samples_that_are_not_finite_are_counted(here, capsys, monkeypatch):
    def draw(sampler, model, shape, n, *rest):
        x = torch.zeros(n, *shape)
        x[2:5, 0] = torch.inf
        yield Samples(x, 3.0, 0.1)

    monkeypatch.setattr("scoresde.workflows.evaluate.draw", draw)
    assert main(["evaluate", "run=run", W, *QUICK]) == 2
    assert capsys.readouterr().err.startswith("error: samples: 3 of 20 are not finite; try more sampler.steps")
    assert not (here / "run" / "evaluations").exists()


class Wild(Metric):
    quantities = (Quantity("wild"),)

    def __call__(self, samples, dataset):
        raise scoresde.InputError("features: not finite")


def test_a_metric_that_refuses_samples_ends_no_training():
    from scoresde.results import Scorer

    run = scoresde.data.Moons(n=40).load()
    scorer = Scorer([Wild()], run)
    assert np.isnan(scorer(run.train[:5])["wild"].value)
    with pytest.raises(scoresde.InputError, match="not finite"):
        scorer(run.train[:5], strict=True)
    assert torch.isfinite(run.train).all()
