"""`scoresde convert`: from the command line to samples, and files that must not be trusted."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from score_sde_layout import checkpoint, config

import scoresde
from scoresde import InputError
from scoresde import convert as package
from scoresde.cli.main import main
from scoresde.convert.files import read_file


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(checkpoint(config("vpsde"))[0], "checkpoint.pth")
    Path("config.json").write_text(json.dumps(config("vpsde")))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    assert main(["convert", *arguments]) == code
    printed = capsys.readouterr()
    if code:
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
    return printed.err if code else printed.out


def test_a_converted_run_is_sampled_from(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "file=checkpoint.pth", "config=config.json", "out=run", code=0)
    report = json.loads((here / "run" / "convert.json").read_text())
    assert report["inferred"]["multipliers"] == [1, 2]
    assert report["given"]["fir"] is False
    assert report["layout"] == "score_sde"
    assert all(
        word in text for word in ("inferred", "given", "moving averages", f"{report['parameters']:,} parameters")
    )
    assert main(["sample", "run=run", "n=3", "sampler.steps=2", "out=drawn"]) == 0
    samples = np.load("drawn/samples.npz")
    assert samples[samples.files[0]].shape == (3, 3, 8, 8)
    assert samples[samples.files[0]].dtype == np.uint8
    assert report["parameters"] == sum(p.numel() for p in scoresde.load("run").model.parameters())


def test_settings_in_place_of_a_configuration(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["file=checkpoint.pth", "sde=vp", "model=ddpmpp", "size=8"]
    assert "assumed" in said(capsys, *common, "sde.beta_max=15", "out=run", code=0)
    assert scoresde.load("run").sde.beta_max == 15  # type: ignore[attr-defined]
    message = said(capsys, *common, "model.net.channels=64", "out=other")
    assert "model.net.channels: 64 was given, but by the weights it is 8" in message
    assert not Path("other").exists()


def test_a_run_without_data_says_so_where_data_are_needed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "file=checkpoint.pth", "config=config.json", "out=run", code=0)
    assert main(["compare", "run=run"]) == 2
    assert "data is missing" in capsys.readouterr().err
    assert main(["train", "run=run"]) == 2
    assert "is missing" in capsys.readouterr().err
    said(capsys, "file=checkpoint.pth", "config=config.json", "data=digits", "out=with", code=0)
    with pytest.raises(InputError, match=r"^data: with has items of shape \(3, 8, 8\), and this data \(1, 8, 8\)"):
        scoresde.load("with").dataset()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["out=run"], "file: None is not allowed; to=run needs file="),
        (["file=checkpoint.pth", "run=run", "out=x"], "to=run takes file= alone"),
        (["to=diffusers", "out=x"], "to=diffusers needs run="),
        (["file=none.pth", "out=x"], "file: none.pth does not exist"),
        (["file=checkpoint.pth"], "out: not given"),
        (["file=checkpoint.pth", "out=config.json"], "out: config.json already exists"),
        (["file=checkpoint.pth", "config=config.json", "out=no/such/place"], "out: no/such/place cannot be made"),
        (["file=checkpoint.pth", "config=none.json", "out=x"], "config: there is no file none.json"),
        (["file=config.json", "out=x"], "file: config.json"),
        (["file=checkpoint.pth", "weights=best", "out=x"], "weights: 'best' is not one of ema, raw"),
        (["file=checkpoint.pth", "size=0", "out=x"], "size: 0 is not allowed"),
        (["file=strange.npz", "out=x"], "holds no layout that is known here (its tensors are a, ...)"),
        (["file=checkpoint.pth", "config=bad.yaml", "out=x"], "config: bad.yaml: not readable as YAML"),
    ],
)
def test_mistakes_are_one_line(here: Path, capsys: Any, arguments: list[str], words: str) -> None:
    np.savez("strange.npz", a=np.zeros(3))
    Path("bad.yaml").write_text("model: !!python/tuple [1, 2]\n")
    before = set(here.iterdir())
    assert words in said(capsys, *arguments)
    assert set(here.iterdir()) == before


HOSTILE = {
    "nested.json": ('{"a":' * 3000 + "1" + "}" * 3000, "config: nested.json cannot be read as JSON ("),
    "nested.yaml": ("{a: " * 3000 + "1" + "}" * 3000, "config: nested.yaml: is nested more than 50-fold"),
    "large.json": (200_000_000, "config: large.json cannot be read as JSON (has more than "),
    "large.yaml": (200_000_000, "config: large.yaml: has 200,000,000 bytes, and no configuration has more than "),
    "alias.yaml": ("a: &a [1]\nb: [*a, *a]", "config: alias.yaml: holds an alias (*)"),
    "list.json": ("[1]", "config: list.json cannot be read as JSON (holds list, not a mapping)"),
    "list.yaml": ("[1]", "config: list.yaml holds list, not keys and values"),
    "code.yaml": ("model: !!python/tuple [1, 2]", "are not plain YAML, write [1, 2, 2]"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_configuration_that_means_harm_is_one_line(here: Path, capsys: Any, name: str) -> None:
    content, words = HOSTILE[name]
    Path(name).write_text("" if isinstance(content, int) else content)
    os.truncate(name, content if isinstance(content, int) else len(content))
    before = set(here.iterdir())
    assert words in said(capsys, "file=checkpoint.pth", f"config={name}", "out=x")
    assert set(here.iterdir()) == before


def test_what_a_killed_conversion_left_is_removed_by_the_next(here: Path, capsys: Any) -> None:
    for kept in (".run.x", ".other.4194399", ".run"):
        Path(kept).mkdir()
    Path(".run.4194399").mkdir()
    Path(".run.4194399", "config.yaml").write_text("half")
    said(capsys, "file=checkpoint.pth", "config=config.json", "out=run", code=0)
    assert {path.name for path in here.glob(".*")} == {".run.x", ".other.4194399", ".run"}


def test_a_run_goes_to_diffusers_or_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "file=checkpoint.pth", "config=config.json", "out=run", code=0)
    assert "to=diffusers: a UNet2DModel cannot hold this network" in said(capsys, "run=run", "to=diffusers", "out=x")
    assert not Path("x").exists()


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.target, "it ran"))


@pytest.mark.parametrize("kind", ["zip", "pickle", "beside", "npz"])
def test_a_file_that_wants_to_run_code_is_refused_and_not_run(here: Path, capsys: Any, kind: str) -> None:
    proof, file = here / "proof", Path("harm.npz" if kind == "npz" else "harm.pth")
    content: Any = {"model": checkpoint(config("vpsde"))[0]["model"], "step": Harm(proof)}
    if kind == "pickle":
        file.write_bytes(pickle.dumps(Harm(proof)))
    elif kind == "npz":
        np.savez(file, allow_pickle=True, a=np.array([Harm(proof)], dtype=object))
    else:
        torch.save(content if kind == "beside" else Harm(proof), file)
    message = said(capsys, f"file={file}", "config=config.json", "out=x")
    assert not proof.exists()
    assert ("which are never loaded" if kind == "npz" else "nothing of it was run") in message
    assert "weights_only" not in message
    if kind != "npz":
        # the file is as harmful as it is taken for
        pickle.loads(file.read_bytes()) if kind == "pickle" else torch.load(file, weights_only=False)
        assert proof.read_text() == "it ran"


def test_damaged_files_are_refused(here: Path) -> None:
    whole = Path("checkpoint.pth").read_bytes()
    for name, content in (("cut.pth", whole[: len(whole) // 2]), ("text.pth", b"hello"), ("empty.pth", b"")):
        Path(name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_file(name)
    Path("cut.safetensors").write_bytes(b"12345678901234567890")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        read_file("cut.safetensors")


def test_it_is_there_from_python() -> None:
    assert {"convert", "to_diffusers"} <= set(package.__all__)
