"""A training that starts from another run: from its weights, in its units, and whole without it later."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from score_sde_layout import checkpoint, config
from torch import nn

from scoresde import load
from scoresde.cli.main import main
from scoresde.data import ArrayFile, Dataset
from scoresde.errors import InputError
from scoresde.workflows.initial import Initial

SMALL = ["debug=tiny", "logger=none", "metrics={}", "n=2", "~samplers.predictor_corrector", "~samplers.dopri5"]
SMALL += ["trainer.batch_size=4"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a converted network of VE for images of 8x8 in [0, 1], and images in a folder."""
    monkeypatch.chdir(tmp_path)
    torch.save(checkpoint(config("vesde"))[0], "checkpoint.pth")
    Path("config.json").write_text(json.dumps(config("vesde")))
    assert main(["convert", "file=checkpoint.pth", "config=config.json", "out=first"]) == 0
    Path("photos").mkdir()
    for k, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(f"photos/{k}.png")
    return tmp_path


def train(*arguments: str, code: int = 0) -> None:
    assert main(["train", *SMALL, "data=folder", "data.path=photos", "data.size=8", *arguments]) == code


def weights(run: str, which: str = "raw") -> torch.Tensor:
    return nn.utils.parameters_to_vector(load(run, weights=which).model.parameters())


def test_it_starts_from_the_averaged_weights_in_the_units_of_the_run(here: Path) -> None:
    train("init=first", "run=second", "trainer.steps=1", "optimizer.lr=1e-9")
    before, after = load("first"), load("second")
    torch.testing.assert_close(weights("second"), weights("first", "ema"), rtol=0, atol=1e-6)
    assert not torch.allclose(weights("second"), weights("first", "raw"), atol=1e-3)
    assert after.transform == before.transform  # [0, 1], where data=folder alone gives [-1, 1)
    assert after.dataset().transform == before.transform
    assert float(after.dataset().items.min()) >= 0
    assert (repr(after.sde), type(after.model)) == (repr(before.sde), type(before.model))
    x, t = torch.rand(2, 3, 8, 8), torch.tensor([0.2, 0.9])
    torch.testing.assert_close(after.model(x, t).score, before.model(x, t).score, rtol=1e-3, atol=1e-3)


def test_it_learns_and_goes_on_to_the_bit_without_the_first_run(here: Path) -> None:
    train("init=first", "run=whole", "trainer.steps=6", "trainer.schedule=constant")
    train("init=first", "run=parts", "trainer.steps=3", "trainer.schedule=constant")
    assert not torch.equal(weights("parts"), weights("first", "ema"))
    shutil.rmtree("first")
    assert main(["train", "run=parts", "trainer.steps=6"]) == 0
    assert torch.equal(weights("parts"), weights("whole"))
    assert torch.equal(weights("parts", "ema"), weights("whole", "ema"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["init=nowhere"], "there is no folder nowhere"),
        (["init=first", "model.net.channels=4"], "model.net.channels: init= takes the SDE and the network of first"),
        (["init=first", "sde=vp"], "sde: init= takes"),
        (["init=first", "data.size=16"], "init: first has items of shape (3, 8, 8), and this data (3, 16, 16)"),
        (["init=first", "data=array", "data.path=a.npy"], "init: first has items of shape"),
        (
            ["init=first", "data=array", "data.path=b.npy"],
            "init: first has data units from, to, in levels (0.0, 255.0, 256)",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    arguments: list[str], says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("a.npy", np.random.default_rng(0).normal(size=(20, 5)))
    np.save("b.npy", np.random.default_rng(0).normal(size=(20, 3, 8, 8)))
    capsys.readouterr()
    given = {a.split("=")[0]: a for a in ["data=folder", "data.path=photos", "data.size=8", *arguments]}
    if "data=array" in given.values():
        del given["data.size"]
    assert main(["train", *SMALL, *given.values(), "run=second"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err
    assert not Path("second").exists()


def test_data_in_other_units_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL, "data=digits", "model.net.channels=8", "trainer.steps=1", "run=digits"]) == 0
    Path("grey").mkdir()
    for k in range(8):
        Image.fromarray(np.full((8, 8), 20 * k, np.uint8)).save(f"grey/{k}.png")
    capsys.readouterr()
    grey = ["data=folder", "data.path=grey", "data.size=8", "data.mode=grey"]
    assert main(["train", *SMALL, *grey, "init=digits", "run=second"]) == 2
    assert "init: digits has data units from, to, in levels (0.0, 16.0, 17)" in capsys.readouterr().err


def test_a_run_with_other_categories_is_no_beginning(tmp_path: Path) -> None:
    def table(name: str, colors: tuple[str, str]) -> Dataset:
        rows = "".join(f"{colors[k % 2]},{k / 7}\n" for k in range(40))
        (tmp_path / name).write_text("color,size\n" + rows)
        return ArrayFile(str(tmp_path / name)).load()

    first = Initial("r", table("a.csv", ("red", "blue")).transform, None)
    assert first.in_its_units(table("b.csv", ("blue", "red"))).transform == first.transform
    with pytest.raises(InputError, match=r"init: r has the categories .*'red'.*, and this data .*'green'"):
        first.in_its_units(table("c.csv", ("red", "green")))


def test_a_resumed_training_keeps_its_units_whatever_its_data_would_have_now(here: Path) -> None:
    rng = np.random.default_rng(0)
    train_table = ["data=array", "data.path=x.npy", "model=mlp", "model.net.width=8", "run=one"]
    np.save("x.npy", rng.standard_normal((40, 3)))
    assert main(["train", *SMALL, *train_table, "trainer.steps=1"]) == 0
    before = load("one").transform
    np.save("x.npy", 5 + 3 * rng.standard_normal((40, 3)))
    assert main(["train", *SMALL, *train_table, "trainer.steps=2"]) == 0
    after = load("one")
    assert (after.step, after.transform) == (2, before)
    assert float(after.dataset().items.mean()) > 3
