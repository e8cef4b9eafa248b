"""`scoresde.train`: a run from what users have in memory, that is as good as one from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import scoresde
from scoresde import VPSDE, InputError, Sampler, load
from scoresde.cli.main import main
from scoresde.data import Dataset, Moons, SavedDataset
from scoresde.data.memory import save
from scoresde.loggers import NoLogger
from scoresde.runs import read_config
from scoresde.training import Trainer
from scoresde.workflows.train import source_of, train

POINTS = np.random.default_rng(0).normal(size=(60, 2))
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 1, 8, 8), dtype=np.uint8)
TINY = {"steps": 4, "batch_size": 8, "n": 6, "device": "cpu", "metrics": {}, "trainer": Trainer(auto_check=0)}
FILES = {"config.yaml", "metrics.jsonl", "checkpoints", "samples", "summary.json"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Pairs(torch.utils.data.Dataset):
    """Images with classes, as those of torchvision come."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, i):
        return torch.from_numpy(IMAGES[i]) / 255, i % 3


class Net(nn.Module):
    """A network of the user's, which no configuration can construct."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x, c):
        return self.layer(torch.cat((x, c[:, None]), 1))


class OwnSDE(VPSDE):
    pass


def weights(run):
    return nn.utils.parameters_to_vector(run.model.parameters())


def test_a_run_from_python_is_a_whole_run(here, capsys):
    run = train(POINTS, run="run", **{**TINY, "metrics": "distances"})
    assert {p.name for p in Path("run").iterdir()} == FILES | {"data.npz", ".lock"}
    loaded = load("run", device="cpu")
    assert torch.equal(weights(loaded), weights(run))
    assert loaded.step == run.step == 4
    np.testing.assert_array_equal(np.asarray(loaded.sample(5, steps=3)), run.sample(5, steps=3).data)
    summary = json.loads(Path("run/summary.json").read_text())
    assert [row["name"] for row in summary["results"]["rows"]] == ["auto"]
    assert str(run.results) == str(loaded.results)
    assert main(["sample", "run=run", "n=3"]) == 0
    assert main(["train", "run=run", "trainer.steps=6"]) == 0
    assert load("run").step == 6
    assert main(["compare", "folder=run", "logger=none", "out=table"]) == 0
    assert main(["doctor", "run=run"]) in (0, 1)
    capsys.readouterr()


def test_the_stored_configuration_has_the_keys_of_the_command_line(here):
    train(POINTS, sde="ve", run="python", **TINY)
    np.save("t.npy", POINTS)
    small = ["debug=tiny", "logger=none", "metrics={}", "n=2", "~samplers.predictor_corrector", "~samplers.dopri5"]
    assert main(["train", "data=array", "data.path=t.npy", "model=mlp", "sde=ve", "run=typed", *small]) == 0
    python, typed = read_config(Path("python")), read_config(Path("typed"))
    assert python.keys() == typed.keys()
    for key in ("sde", "model", "loss", "optimizer", "trainer"):
        assert python[key].keys() == typed[key].keys(), key
    assert isinstance(python["sde"]["sigma_max"], float)


@pytest.mark.parametrize(
    "data", [torch.from_numpy(IMAGES), Pairs(), IMAGES[:, 0], list(IMAGES)], ids=["tensor", "pairs", "grey", "list"]
)
def test_images(data, here):
    run = train(data, **TINY)
    assert run.path.parent == Path("runs")
    assert run.event_shape == (1, 8, 8)
    drawn = run.sample(3, steps=2)
    assert len(drawn) == 3
    assert drawn[0].shape == (1, 8, 8)
    assert drawn._repr_html_().startswith("<img")
    assert "UNet" in run._repr_html_()
    assert torch.equal(run.dataset().heldout, load(run.path).dataset().heldout)


def test_classes(here):
    run = train(Pairs(), run="pairs", **TINY)
    assert run.config["model"]["net"]["condition_size"] == 3
    assert run.dataset().classes == 3
    labelled = train(IMAGES, labels=np.arange(24) % 4, run="labels", **TINY)
    assert labelled.config["model"]["net"]["condition_size"] == 4
    one, two = (labelled.sample(2, steps=2, label=label, guidance=2).x for label in (1, 2))
    assert not torch.equal(one, two)


def test_a_folder_a_file_a_source_and_a_name(here):
    Path("pngs").mkdir()
    for k, image in enumerate(IMAGES):
        Image.fromarray(image[0]).convert("RGB").save(f"pngs/{k}.png")
    assert train("pngs", **TINY).event_shape == (3, 8, 8)
    np.save("t.npy", POINTS)
    run = train(Path("t.npy"), run="file", **TINY)
    assert run.config["data"]["path"] == "t.npy"
    assert "data.npz" not in {p.name for p in run.path.iterdir()}
    assert train(Moons(n=50, noise=0.2), run="moons", **TINY).config["data"]["noise"] == 0.2
    assert source_of("digits").load().event_shape == (1, 8, 8)


def test_a_second_call_resumes_to_the_bit(here):
    short = {**TINY, "trainer": Trainer(schedule="constant", auto_check=1)}
    whole = train(POINTS, run="whole", **{**short, "steps": 8})
    train(POINTS, run="parts", **short)
    parts = train(POINTS, run="parts", **{**short, "steps": 8})
    assert torch.equal(weights(parts), weights(whole))
    with pytest.raises(InputError, match=r"sde._target_: parts was made with 'scoresde.VPSDE', not 'scoresde.VESDE'"):
        train(POINTS, run="parts", sde="ve", **TINY)


def test_classes_of_the_users_own(here, capsys):
    class Local(Net):
        """Defined in a function, so that nothing can import it."""

    run = train(POINTS, sde=OwnSDE(), model=Local(), run="own", **TINY)
    assert "config.yaml leaves out model.net" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"net: own was trained with a network of your own; give an equal one"):
        load("own", sde=OwnSDE())
    with pytest.raises(InputError, match=r"sde._target_: .*OwnSDE is not allowed"):
        load("own", net=Local())
    again = load("own", net=Local(), sde=OwnSDE(), device="cpu")
    assert torch.equal(weights(again), weights(run))


def test_settings_callbacks_and_samplers(here):
    seen = []
    run = train(
        POINTS,
        model="mlp",
        optimizer=lambda params: torch.optim.SGD(params, lr=0.01),
        samplers={"short": Sampler(steps=3), "long": Sampler(steps=5)},
        callbacks=[(2, lambda progress: seen.append(progress.step))],
        logger=NoLogger(),
        run="run",
        **{**TINY, "trainer": Trainer(ema=0.5, auto_check=0)},
    )
    assert seen == [2, 4]
    assert run.config["trainer"]["ema"] == 0.5
    assert run.config["trainer"]["steps"] == 4
    assert {p.stem for p in Path("run/samples").iterdir()} == {"short", "long", "score"}


BAD = [
    (np.zeros((32, 32, 3)), "(32, 32, 3) looks like one image"),
    (np.zeros((9, 32, 32, 3)), "has its channels last; give x.transpose(0, 3, 1, 2)"),
    (np.zeros((9, 8, 8)), "could be grey images or series; give images as x[:, None]"),
    (np.zeros((9, 2)), "are the same; there is nothing to learn"),
    (np.array([[1.0, np.nan], [2.0, 3.0]]), "NaN or infinite values (1 of 4, the first at index [0, 1])"),
    (np.empty((0, 3, 8, 8), np.uint8), "an empty array of shape (0, 3, 8, 8)"),
    (np.ones((1, 2)), "holds 1 item"),
    (np.array(["a", "b"]), "values of type <U1"),
    (["a", "b"], "an item is str 'a'"),
    ([torch.zeros(2), torch.zeros(3)], "items of shapes (2,) and (3,)"),
    ([], "give at least 2 items"),
    ({"x": 1}, "dict has no items by number"),
    (None, "NoneType has no items by number"),
    ("moon", "'moon' is no folder, file or name of data; did you mean moons?"),
]


@pytest.mark.parametrize(("data", "says"), BAD, ids=[says for _, says in BAD])
def test_data_that_cannot_be_used_are_one_line(data, says, here):
    with pytest.raises(InputError) as caught:
        train(data, **TINY)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sde": "vpp"}, "sde: there is no sde vpp; did you mean vp?"),
        ({"sde": 5}, "sde: 5 is not a SDE"),
        ({"steps": -1}, "steps: -1 is not allowed"),
        ({"steps": 2.5}, "steps: 2.5 is not an integer"),
        ({"lr": -1.0}, "optimizer.lr: -1.0 is not allowed"),
        ({"model": "unet"}, "model.net.event_shape: (2,) is not allowed"),
        ({"model": nn.Linear(2, 2)}, "model.net: Linear cannot be called as net(x, c)"),
        ({"labels": [1, 2]}, "labels: int64 of shape (2,); give one integer for each of 60 items"),
        ({"n": 0}, "n: 0 is not allowed"),
        ({"run": "file.txt"}, "run: file.txt is a file"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(settings, says, here):
    Path("file.txt").touch()
    with pytest.raises(InputError) as caught:
        train(POINTS, **{**TINY, **settings})
    assert str(caught.value).startswith(says)
    assert [p.name for p in here.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("data", [IMAGES, POINTS.astype(np.float32)])
def test_a_saved_data_set_is_the_same(data, tmp_path):
    dataset = source_of(data, np.arange(len(data)) % 2).load()
    save(dataset, tmp_path)
    found = SavedDataset(tmp_path).load()
    assert isinstance(found, Dataset)
    assert torch.equal(found.items, dataset.items)
    assert torch.equal(found.heldout, dataset.heldout)
    assert torch.equal(found.heldout_labels, dataset.heldout_labels)
    assert found.transform == dataset.transform


def test_the_configuration_is_plain_yaml(here):
    run = train(POINTS, run="run", **TINY)
    assert yaml.safe_load(Path("run/config.yaml").read_text()) == run.config


LONG = "x" * 300


@pytest.mark.parametrize(
    "call",
    [
        lambda: scoresde.train(np.eye(8), run=LONG),
        lambda: scoresde.train(np.eye(8), run="\u00fc" * 200),
        lambda: scoresde.train(f"{LONG}.npy"),
        lambda: scoresde.train(np.eye(8), run="r", samplers={LONG: scoresde.Sampler()}),
        lambda: scoresde.train(np.eye(8), run="r", samplers={"a/b": scoresde.Sampler()}),
        lambda: scoresde.load(LONG),
        lambda: scoresde.compare(scoresde.comparison.Mixture(), solvers=["heun"], n=20, seeds=2, folder=LONG),
    ],
)
def test_a_name_that_no_file_can_have_is_one_line_and_makes_nothing(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(scoresde.InputError, match=r"File name too long|no name of a file") as caught:
        call()
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
