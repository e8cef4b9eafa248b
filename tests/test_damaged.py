"""Damaged or hostile files in a run folder, behind right manifests: one line about each, at once, or repaired."""

import json
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from training_job import fit, last, model_and_optimizer, resume, rows

from scoresde import InputError, runs
from scoresde.data import Transform
from scoresde.loggers import MetricsFile
from scoresde.loss import DenoisingScoreMatching
from scoresde.training import checkpoint as checkpoints
from scoresde.training import manifest as manifests

LEVELS = [b"a: &a0 [x, x, x, x, x, x, x, x, x]"] + [
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]".encode() for k in range(1, 12)
]
CONFIGS = {
    "empty": (b"", "holds NoneType, not a mapping"),
    "a list": (b"- 1", "holds list, not a mapping"),
    "nested": (b"a: " + b"[" * 3000 + b"]" * 3000, "nested more than 50-fold|maximum nesting depth"),
    "nested maps": (b"\n".join(b" " * k + b"a:" for k in range(900)), "nested more than 50-fold"),
    "billion laughs": (b"\n".join(LEVELS).replace(b"&a0 ", b"&a0 "), r"holds an alias \(\*\)"),
    "itself": (b"a: &a [*a]", r"holds an alias \(\*\)"),
    "huge": (b"a: 1\n" * 300_000, "has 1,500,000 bytes, and no configuration has more than 1,048,576"),
    "binary": (bytes(range(256)), "not readable as YAML"),
    "a class": (b"!!python/object/apply:os.system ['true']", "not readable as YAML"),
    "a number too long": (b"a: " + b"9" * 5000, "not readable as YAML"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_damaged_configuration_is_one_line_at_once(tmp_path, name):
    content, says = CONFIGS[name]
    (tmp_path / runs.CONFIG).write_bytes(content)
    begin = time.process_time()
    with pytest.raises(InputError, match=says) as caught:
        runs.read_config(tmp_path)
    assert time.process_time() - begin < 1
    assert "\n" not in str(caught.value)


# ---- checkpoints whose manifest is right ----


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole")
    fit(run)
    return run


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def rewrite(run: Path, name: str, content: bytes) -> Path:
    """Replace a file of the newest checkpoint, and have the manifest say so."""
    place = checkpoints.at_step(run, 60)
    (place / name).write_bytes(content)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest[name] = {"size": len(content), "sha256": manifests.digest(place / name)}
    (place / "manifest.json").write_text(json.dumps(manifest))
    return place


def change(state: dict[str, Any], key: str, value: Any) -> bytes:
    *parents, final = key.split(".")
    place = state
    for part in parents:
        place = place[part]
    if value is None:
        del place[final]
    else:
        place[final] = value
    return json.dumps(state).encode()


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("step", "sixty", "step: 'sixty' is not an integer"),
        ("step", -1, "step: -1 is not allowed; give an integer >= 0"),
        ("step", None, "state.json has no step"),
        ("schema", "one", "schema 'one' but this version reads 1"),
        ("seed", [7], r"seed: \[7\] is not an integer"),
        ("seed", None, "state.json has no seed"),
        ("samples_seen", 1.5, "samples_seen: 1.5 is not an integer"),
        ("samples_seen", None, "state.json has no samples_seen"),
        ("ema_updates", {}, r"ema_updates: \{\} is not an integer"),
        ("best", 3, "best: 3 is not"),
        ("best.value", "low", "best.value: 'low' is not a number"),
        ("best.step", None, "state.json has no step"),
        ("data", "none", "data: 'none' is not"),
        ("data", None, "state.json has no data"),
        ("data.train", None, "state.json has no train"),
        ("optimizer", 3, "optimizer: 3 is not"),
        ("optimizer.class", None, "state.json has no class"),
        ("optimizer.values", {"step/a": "x"}, "optimizer.values: "),
    ],
)
def test_a_state_of_other_types_is_one_line(copy, key, value, says):
    rewrite(copy, "state.json", change(last(copy).state, key, value))
    with pytest.raises(InputError, match=says) as caught:
        resume(copy, steps=90)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[1]", "null", "{", '{"a":' * 30_000, "\x00"])
def test_a_state_that_is_no_mapping_is_one_line(copy, text):
    place = rewrite(copy, "state.json", text.encode())
    with pytest.raises(InputError, match=f"checkpoint: {place / 'state.json'}.*"):
        last(copy)


def _pickled(file: Path) -> bytes:
    torch.save({"a": torch.zeros(2)}, file)
    return file.read_bytes()


def _not_finite(file: Path) -> bytes:
    tensors = load_file(file)
    first = next(name for name, t in tensors.items() if t.is_floating_point())
    tensors[first].view(-1)[0] = torch.nan
    save_file(tensors, file)
    return file.read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda _: struct.pack("<Q", 2**63) + b"{}", "cannot be read .*header too large"),
        (lambda _: b"abc", "cannot be read"),
        (_pickled, "cannot be read"),
        (_not_finite, "holds NaN or infinity; use another checkpoint"),
    ],
)
@pytest.mark.parametrize("name", ["ema", "model"])
def test_foreign_tensors_are_one_line(copy, name, content, says):
    file = checkpoints.at_step(copy, 60) / f"{name}.safetensors"
    rewrite(copy, file.name, content(file))
    with pytest.raises(InputError, match=f"{file.name}.* {says}") as caught:
        last(copy)
    assert "\n" not in str(caught.value)


TENSORS = {
    "model": "net.inner.weight",
    "ema": "net.out.weight",
    "optimizer": "exp_avg_sq/net.inner.weight",
    "history": "sums",
}
CHANGES = {
    "a row that broadcasts": lambda t: t[:1],
    "transposed": lambda t: t.T,
    "a number": lambda t: t[0, 0],
    "half": lambda t: t.half(),
    "other": lambda t: t.to(torch.float32 if t.dtype == torch.float64 else torch.float64),
    "integers": lambda t: t.long(),
    "complex": lambda t: t.cfloat(),
    "float8": lambda t: t.to(torch.float8_e4m3fn),
}


@pytest.fixture(scope="module")
def with_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("history")
    fit(run, loss=DenoisingScoreMatching(importance=True))
    return run


@pytest.mark.parametrize("how", [*CHANGES, "left out"])
@pytest.mark.parametrize("name", TENSORS)
def test_tensors_of_another_shape_or_type_are_one_line_and_nothing_is_touched(with_history, tmp_path, name, how):
    run, tensor = shutil.copytree(with_history, tmp_path / "run"), TENSORS[name]
    file = checkpoints.at_step(run, 60) / f"{name}.safetensors"
    content = load_file(file)
    changed = content.pop(tensor)
    if how != "left out":
        content[tensor] = CHANGES[how](changed).contiguous()
    save_file(content, tmp_path / "changed")
    rewrite(run, file.name, (tmp_path / "changed").read_bytes())
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    begin = time.process_time()
    with pytest.raises(InputError, match=rf"^checkpoint: {file}.*\b{tensor}\b") as caught:
        resume(run, steps=90, loss=DenoisingScoreMatching(importance=True))
    assert time.process_time() - begin < 1
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["model", "ema"])
def test_a_checkpoint_without_its_weights_is_one_line(copy, name):
    place = checkpoints.at_step(copy, 60)
    (place / f"{name}.safetensors").unlink()
    manifest = json.loads((place / "manifest.json").read_text())
    del manifest[f"{name}.safetensors"]
    (place / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=f"^checkpoint: {place}/{name}.safetensors is missing"):
        resume(copy, steps=90)


def test_an_optimizer_state_without_what_its_settings_need_is_one_line(copy):
    model, _ = model_and_optimizer()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, amsgrad=True)
    with pytest.raises(InputError, match=r"max_exp_avg_sq/net\.inner\.weight is no tensor where Adam keeps \(32, 3\)"):
        resume(copy, steps=90, model=model, optimizer=optimizer)


@pytest.mark.parametrize("text", ["[", "[" * 50_000, '{"model.safetensors": 3}', "3"])
def test_a_damaged_manifest_is_one_line(copy, text):
    for place in (copy / "checkpoints").glob("step-*"):
        (place / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="is damaged: "):
        last(copy)


@pytest.mark.parametrize(
    ("field", "value"),
    [("event_shape", "big"), ("event_shape", [2, "x"]), ("mean", [0.0] * 7), ("scale", -1.0), ("kind", 3), ("new", 1)],
)
def test_a_transform_of_other_types_is_one_line(field, value):
    fields = {**Transform("points", (2,)).to_dict(), field: value}
    with pytest.raises(InputError, match=field):
        Transform.from_dict(fields)


def test_a_transform_survives_to_the_bit():
    table = Transform("table", (2,), (0.1, 1 / 3), (1.0, 2.0), names=("a", "b"))
    for transform in (Transform.of_levels((3, 4, 4)), table):
        assert Transform.from_dict(json.loads(json.dumps(transform.to_dict()))) == transform


# ---- the record ----


def test_what_is_no_row_of_the_record_is_removed_and_said(tmp_path, capsys):
    file = tmp_path / "metrics.jsonl"
    logger = MetricsFile(file)
    for step in (1, 2, 3):
        logger.log({"loss": 0.5}, step)
    whole = file.read_bytes().splitlines(keepends=True)
    odd = b'{"step": null}\n{"step": "x"}\n[1]\n' + b"[" * 20_000 + b"\n" + bytes(range(128, 256)) + b"\n"
    file.write_bytes(whole[0] + odd + whole[1] + whole[2] + b"\xff\xfe\x00")
    logger.rewind(2)
    assert file.read_bytes() == whole[0] + whole[1]
    assert "metrics.jsonl: 6 of its lines hold no values of a step; they are removed" in capsys.readouterr().err


def test_a_resumed_training_repairs_the_record(copy, capsys):
    file = copy / "metrics.jsonl"
    before = rows(copy)
    file.write_bytes(file.read_bytes() + np.random.default_rng(0).bytes(300))
    resume(copy, steps=90)
    assert rows(copy)[: len(before)] == before
