"""The script that changes one thing at a time: its changes can be compiled, and its parts have tests."""

import ast
from pathlib import Path

import mutants
import pytest


def test_each_part_has_tests():
    for names in mutants.PARTS.values():
        assert all((Path(__file__).parent / f"test_{name}.py").exists() for name in names)


@pytest.mark.parametrize("part", ["sde", "noise", "control"])
def test_changes_are_programs_that_differ(part):
    found = mutants.chosen(part, 20, seed=1)
    assert len(found) == 20
    for mutant in found:
        source = (mutants.ROOT / mutant.file).read_text()
        assert ast.dump(ast.parse(mutant.applied(source))) != ast.dump(ast.parse(source))
    assert mutants.chosen(part, 5, seed=1) == found[:5]
    assert mutants.chosen(part, 20, seed=2) != found


def test_a_change_is_noticed_by_a_test_that_knows_the_right_value(tmp_path):
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "area.py").write_text("def area(r):\n    return 3 * r**2\n")
    for name, check in {"good": "area(2) == 12", "weak": "area(0) == 0"}.items():
        (tmp_path / f"test_{name}.py").write_text(f"from area import area\n\ndef test_area():\n    assert {check}\n")
    changed = mutants.Mutant(Path("area.py"), 2, "3", "4", len("def area(r):\n    return "))
    assert mutants.noticed(changed, ["test_good.py"], tmp_path)
    assert not mutants.noticed(changed, ["test_weak.py"], tmp_path)
    assert "return 3" in (tmp_path / "area.py").read_text()
