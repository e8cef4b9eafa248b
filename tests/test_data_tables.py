"""Tables of text: every number to its digits whatever separates them, integers and categories as they came."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from scoresde.cli.stream import sample_files
from scoresde.data import ArrayFile, Dataset, Transform
from scoresde.data.columns import Column
from scoresde.data.single import read_item
from scoresde.errors import InputError

VALUES = np.random.default_rng(0).standard_normal((40, 3)) * [1, 100, 1e-3] + [0, 1e6, 5]
COLORS = ["red", "green", "blue, dark"]


def loaded(folder: Path, text: str, name: str = "t.csv", **settings: object) -> Dataset:
    (folder / name).write_text(text, encoding="utf-8")
    return ArrayFile(str(folder / name), **settings).load()  # type: ignore[arg-type]


def finished(data: Dataset) -> np.ndarray:
    return data.transform.finish(torch.cat([data.train, data.heldout]))


def lines(values: np.ndarray, mark: str, comma: bool = False) -> str:
    rows = ([repr(x).replace(".", ",") if comma else repr(x) for x in row] for row in values.tolist())
    return "".join(f"{mark.join(row)}\n" for row in rows)


def by_savetxt(folder: Path, **options: str) -> str:
    np.savetxt(folder / "savetxt", VALUES, fmt="%.18e", **options)
    return (folder / "savetxt").read_text()


TEXTS = {
    "savetxt": lambda d: by_savetxt(d),
    "savetxt with a header": lambda d: by_savetxt(d, header="a b c"),
    "savetxt with a remark": lambda d: by_savetxt(d, header="made in spring\nby hand"),
    "savetxt with tabs": lambda d: by_savetxt(d, delimiter="\t", header="a\tb\tc"),
    "columns of a width": lambda _: "\n".join("".join(f"{x!r:>26}" for x in row) + " " for row in VALUES.tolist()),
    "names and spaces": lambda _: "a  b  c\n" + lines(VALUES, "   "),
    "semicolons, decimal commas": lambda _: "a;b;c\n" + lines(VALUES, ";", comma=True),
    "semicolons, decimal commas, no header": lambda _: lines(VALUES, ";", comma=True),
    "tabs, decimal commas": lambda _: "a\tb\tc\n" + lines(VALUES, "\t", comma=True),
    "spaces, decimal commas": lambda _: lines(VALUES, " ", comma=True),
    "names with spaces": lambda _: "first one,b,c\n" + lines(VALUES, ","),
    "quoted names with separators": lambda _: '"a;b","c\td","e,f"\n' + lines(VALUES, ","),
    "a pandas index": lambda _: ",a,b,c\n" + "".join(f"{k},{x}\n" for k, x in enumerate(lines(VALUES, ",").split())),
    "a pandas index, written again": lambda _: (
        "Unnamed: 0,a,b,c\n" + "".join(f"{k},{x}\n" for k, x in enumerate(lines(VALUES, ",").split()))
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_numbers_survive_whatever_separates_them(tmp_path, case, capsys):
    np.save(tmp_path / "plain.npy", VALUES)
    expected = ArrayFile(str(tmp_path / "plain.npy")).load()
    found = loaded(tmp_path, TEXTS[case](tmp_path), "t.txt" if "savetxt" in case else "t.csv")
    assert torch.equal(found.train, expected.train)
    assert torch.equal(found.heldout, expected.heldout)
    assert ("left out, as an index" in capsys.readouterr().err) == ("index" in case)


def test_columns_are_chosen_by_name_or_by_number(tmp_path):
    text = "id,a,b,who\n" + "".join(f"{k},{k / 4},{-k},Ann {k}\n" for k in range(60))
    for columns, names in ((["b", "a"], ("b", "a")), ([3, "a"], ("b", "a")), ("a", ("a",)), (1, ("id",))):
        data = loaded(tmp_path, text, columns=columns)
        assert data.transform.names == names
        number = {"id": 1, "a": 0.25, "b": -1}
        steps = np.array([number[name] for name in names])
        assert np.abs(np.sort(finished(data) / steps, axis=0) - np.arange(60.0)[:, None]).max() < 1e-5
    np.save(tmp_path / "x.npy", VALUES)
    chosen = ArrayFile(str(tmp_path / "x.npy"), columns=[3, 1]).load()
    assert np.allclose(np.sort(finished(chosen), axis=0), np.sort(VALUES[:, [2, 0]], axis=0), rtol=1e-5)


def test_rows_that_miss_something_are_dropped_on_purpose_only(tmp_path, capsys):
    rows = [f"{k},{k}.5,red" for k in range(12)]
    rows[3], rows[5], rows[7] = "3,,red", "NaN,5.5,red", "7,7.5,NA"
    text = "a,b,c\n" + "\n".join(rows)
    with pytest.raises(InputError, match=r"line 5, column 2 \(b\): '' is an empty cell; .*data\.missing=drop"):
        loaded(tmp_path, text)
    data = loaded(tmp_path, text, missing="drop")
    assert sorted(finished(data)[:, 0]) == [0, 1, 2, 4, 6, 8, 9, 10, 11]
    assert "3 of 12 rows" in capsys.readouterr().err
    # what is not read cannot miss anything
    assert len(finished(loaded(tmp_path, text, missing="drop", columns=["a"]))) == 11
    values = VALUES.copy()
    values[4, 1] = np.nan
    np.save(tmp_path / "x.npy", values)
    dropped = finished(ArrayFile(str(tmp_path / "x.npy"), missing="drop").load())
    assert np.allclose(np.sort(dropped, axis=0), np.sort(np.delete(VALUES, 4, axis=0), axis=0), rtol=1e-5)


def test_integers_and_categories_come_back_as_such(tmp_path):
    rng = np.random.default_rng(1)
    rows = [(COLORS[k % 3], int(rng.integers(-5, 100)), float(rng.normal()), bool(k % 2)) for k in range(30)]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("color", "age", "size", "old"), *rows])
    data = ArrayFile(str(tmp_path / "t.csv")).load()
    transform = data.transform
    assert transform.names == (
        "color=blue, dark", "color=green", "color=red", "age", "size", "old=False", "old=True"
    )  # fmt: skip
    assert transform.columns == (
        Column("color", "category", ("blue, dark", "green", "red")), Column("age", "integer"), Column("size"),
        Column("old", "category", ("False", "True")),
    )  # fmt: skip
    items = torch.cat([data.train, data.heldout])
    assert items.std(0, correction=0).mean() == pytest.approx(1, abs=0.2)
    noisy = items + 0.004 * torch.randn(items.shape, generator=torch.Generator().manual_seed(0))
    noisy[:, 4] = items[:, 4]
    with sample_files(tmp_path, len(noisy), Transform.from_dict(transform.to_dict())) as append:
        append(transform.finish(noisy))
    with (tmp_path / "samples.csv").open(newline="") as file:
        header, *found = csv.reader(file)
    assert header == ["color", "age", "size", "old"]
    read = sorted((color, int(age), round(float(size), 6), old == "True") for color, age, size, old in found)
    assert read == sorted((color, age, round(size, 6), old) for color, age, size, old in rows)
    again = ArrayFile(str(tmp_path / "samples.csv")).load()
    assert again.transform.columns == transform.columns


def test_integers_of_an_array_stay_integers(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(60).reshape(20, 3))
    transform = ArrayFile(str(tmp_path / "x.npy")).load().transform
    found = transform.finish(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)))
    assert (found == np.rint(found)).all()
    found[0, 1] = np.nan
    with sample_files(tmp_path, 50, transform) as append:
        append(found)
    assert "." not in (tmp_path / "samples.csv").read_text()
    assert (tmp_path / "samples.csv").read_text().splitlines()[1].split(",")[1] == "nan"


BAD = {
    "both decimal marks": ("a;b\n1,5;2\n1.5;3\n", {}, ["decimal points", "commas", "write all with points"]),
    "too many categories": (
        "name,x\n" + "".join(f"n{k},{k}\n" for k in range(60)),
        {},
        ["column 1 (name)", "60 texts", "at most 50", "data.columns=[2]"],
    ),
    "no such column": ("age,x\n1,2\n3,4\n", {"columns": ["agee"]}, ["data.columns: agee", "age, x", "mean age?"]),
    "a column beyond the last": ("1,2\n3,4\n", {"columns": [3]}, ["data.columns: 3", "1 to 2"]),
    "the column before the first": ("1,2\n3,4\n", {"columns": [0]}, ["data.columns: 0", "1 to 2"]),
    "every row misses something": ("a,b\n1,\n,2\n", {"missing": "drop"}, ["empty", "(0, 2)"]),
    "infinite": ("a,b\n1,2\ninf,3\n4,5\n", {"missing": "drop"}, ["line 3", "(a)", "'inf' is not finite"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_table_is_one_line(tmp_path, case):
    text, settings, words = BAD[case]
    with pytest.raises(InputError) as found:
        loaded(tmp_path, text, **settings)
    for word in words:
        assert word in str(found.value), str(found.value)


def test_a_row_is_read_by_the_names_of_its_columns(tmp_path):
    lines = [f"{COLORS[k % 3]},{k},{k / 7}" for k in range(30)]
    (tmp_path / "t.csv").write_text("\n".join(["color,age,size", *lines]).replace("blue, dark", '"blue, dark"'))
    transform = ArrayFile(str(tmp_path / "t.csv")).load().transform
    file = tmp_path / "row.csv"

    def read(text, **how):
        file.write_text(text)
        return read_item(str(file), "observation.item", transform, **how).tolist()

    assert read("color,age,size\nred,3,0.5\n") == [0, 0, 1, 3, 0.5]
    assert read("size;id;age;color\n0,5;one;3;green\n") == [0, 1, 0, 3, 0.5]
    assert read('"blue, dark",3,0.5') == [1, 0, 0, 3, 0.5]
    assert np.isnan(read("age,size\n3,\n", finite=False)).tolist() == [True, True, True, False, True]
    assert np.isnan(read("age,size,color\nNA,1,red\n", finite=False)).tolist() == [False] * 3 + [True, False]
    for text, message in {
        "age,size\n3,0.5\n": "has no value for color, or none that is finite; give finite numbers",
        "color,age,size\nred,3,\n": "has no value for size, or none that is finite; give finite numbers",
        "color,age,size\nred,3,1\nred,4,2\n": "has 2 rows; give a file of one",
        "color,age,size\npink,3,1\n": "column color: 'pink' is no category of it; give one of blue, dark, green, red",
        "color,age,size\nred,three,1\n": "column age: 'three' is not a number; give one",
        "sice,ages\n3,1\n": "has none of the columns of these data, which are color, age, size; did you mean size?",
        "3,1\n": "has 2 columns; give 3, or a header",
        "": "holds no rows of numbers",
    }.items():
        with pytest.raises(InputError, match=f"^observation.item: {re.escape(str(file))}.*{re.escape(message)}"):
            read(text)
