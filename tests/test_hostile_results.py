"""Files of results that may be a stranger's: one line about each that is hostile, or it is left out and said."""

import copy
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import scoresde
from scoresde import InputError
from scoresde.comparison.collect import collected
from scoresde.comparison.output import report
from scoresde.files import read_json
from scoresde.results import Results
from scoresde.results.verdict import verdict
from scoresde.runs import Run
from scoresde.sampling import tuned
from scoresde.training import checkpoint as checkpoints

OLD = Path(__file__).parent / "fixtures" / "d14582e"
FILES = {
    "nested": b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}",
    "nested less": b'{"a":' + b"[" * 60 + b"]" * 60 + b"}",
    "a list": b"[1, 2]",
    "a number": b"NaN",
    "binary": bytes(range(128, 256)),
    "cut": b'{"rows": [',
    "empty": b"",
    "200 MB": None,
    "a number too long": b'{"n": ' + b"9" * 5000 + b"}",
}


def write(file: Path, content: bytes | None) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content or b"")
    if content is None:
        os.truncate(file, 200_000_000)


def run_at(folder: Path) -> Run:
    return Run(folder, None, None, (), {}, 0)  # type: ignore[arg-type]


READERS = {
    "summary.json": lambda folder: run_at(folder).summary,
    "history.json": lambda folder: run_at(folder).history,
    "results.json": lambda folder: Results.read(folder / "results.json"),
    "tuned/steps-5.json": lambda folder: tuned.read(folder, 5, scoresde.sde("vp")),
    "checkpoints/best.json": lambda folder: checkpoints.find(folder, "best"),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", FILES)
def test_a_hostile_file_is_one_line_at_once(tmp_path, name, kind):
    write(tmp_path / name, FILES[kind])
    begin = time.process_time()
    with pytest.raises(InputError, match=rf"{name} cannot be read as JSON \(") as caught:
        READERS[name](tmp_path)
    assert time.process_time() - begin < 1
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_what_json_lacks_is_null(tmp_path):
    (tmp_path / "a.json").write_text('{"a": NaN, "b": [Infinity, -Infinity, 1e999, 1.5], "c": "NaN"}')
    assert read_json(tmp_path / "a.json") == {"a": None, "b": [None, None, None, 1.5], "c": "NaN"}


@pytest.mark.parametrize("kind", FILES)
def test_a_hostile_summary_among_others_is_left_out_and_said(tmp_path, capsys, kind):
    shutil.copytree(OLD / "run", tmp_path / "run")
    write(tmp_path / "bad" / "summary.json", FILES[kind])
    assert len(collected(tmp_path, {}, ()).rows) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'bad' / 'summary.json'} cannot be read as JSON" in line
    assert line.endswith("; it is left out")
    shutil.rmtree(tmp_path / "run")  # without trainings it looks for samples
    with pytest.raises(InputError, match="has no results in it"):
        collected(tmp_path, {}, ())
    assert capsys.readouterr().err.splitlines() == [line]


def places(value: Any, path: tuple[Any, ...] = ()):
    """The path of everything in plain values; of a list, of its first item."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The content with another value at a path; without it if the value is None."""
    content = copy.deepcopy(content)
    place = content
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


WRONG = ["x", 1e308, [["x"]], None]


@pytest.mark.parametrize(
    ("source", "name"), [("run", "summary.json"), ("compare", "results.json"), ("run/samples/heun", "summary.json")]
)
def test_any_value_of_another_type_is_one_line_or_harmless(tmp_path, monkeypatch, source, name):
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    folder = Path(shutil.copytree(source, tmp_path / "one", ignore=shutil.ignore_patterns("samples")))
    content = json.loads((folder / name).read_text())
    refused: list[str] = []
    for path in places(content):
        if not path or (path[0] in ("config", "versions") and len(path) > 2):
            continue
        for value in WRONG:
            (folder / name).write_text(json.dumps(changed(content, path, value)))
            try:
                found = collected(folder, {}, ())
                assert verdict(found)
                assert str(found) + found.csv() + str(found.best())
            except InputError as error:
                refused.append(str(error))
    assert len(refused) > 20
    assert not [line for line in refused if "\n" in line or len(line) > 1000]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rows", 0, "nfe"), None),
        (("rows", 0, "error"), "<script>alert(1)</script>$\\frac{"),
        (("rows", 0, "figures", "energy_distance", 0), 1e308),
    ],
)
def test_the_report_of_a_hostile_comparison_is_written(tmp_path, path, value):
    folder = Path(shutil.copytree(OLD / "compare", tmp_path / "one"))
    content = json.loads((folder / "results.json").read_text())
    content["rows"] = content["rows"][:1]
    (folder / "results.json").write_text(json.dumps(changed(content, path, value)))
    found = report(tmp_path / "out", collected(folder, {}, ()), {})
    assert "<script>alert" not in found.path.read_text()


@pytest.mark.parametrize("value", [3, [1], [{"step": 1}], [{"step": 1, "changed": []}], [["step", "changed"]]])
def test_a_history_of_another_form_is_one_line(tmp_path, value):
    (tmp_path / "history.json").write_text(json.dumps({"resumed": value}))
    with pytest.raises(InputError, match=r"history\.json does not list the changes at each resume"):
        run_at(tmp_path).history  # noqa: B018


@pytest.mark.parametrize("value", ["x", -1, [], {"a": 1}, [[1.0]]])
@pytest.mark.parametrize("key", ["sde", "times", "rule", "coefficients"])
def test_a_tuned_grid_of_other_types_is_one_line(tmp_path, key, value):
    shutil.copytree(OLD / "run" / "tuned", tmp_path / "tuned")
    file = tmp_path / "tuned" / "steps-5.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, key: value}))
    run = scoresde.load(OLD / "run", device="cpu")
    with pytest.raises(InputError) as caught:
        run.sample(2, sampler=scoresde.Sampler(tuned.Tuned(tmp_path), steps=5))
    assert "\n" not in str(caught.value)
