"""The pages of the site: their Python runs as it stands, their commands compose, their tables are those of conf/."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch

from scoresde.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPTIONS = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
GROUPS = sorted(p.name for p in (ROOT / "conf").iterdir() if p.is_dir() and p.name != "hydra")


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("group", GROUPS)
def test_table_lists_the_options_that_exist(group):
    row = next(line for line in OPTIONS.splitlines() if line.startswith(f"| `{group}` |"))
    options = {p.stem for p in (ROOT / "conf" / group).glob("*.yaml")}
    assert options <= set(re.findall(r"`(\w+)`", row)[1:])


@pytest.mark.parametrize("group", GROUPS)
def test_table_lists_no_option_that_does_not_exist(group):
    row = next(line for line in OPTIONS.splitlines() if line.startswith(f"| `{group}` |"))
    known = {p.stem for p in (ROOT / "conf").rglob("*.yaml")}
    assert set(re.findall(r"`(\w+)`", row)[1:]) <= known


def test_every_command_is_listed():
    names = [p.stem.replace("_", " ") for p in (ROOT / "conf").glob("*.yaml")]
    assert sorted(re.findall(r"^\| `scoresde ([\w ]+)` \|", OPTIONS, re.MULTILINE)) == sorted(names)


def blocks(page: Path, language: str = "") -> list[str]:
    """The fenced code blocks of a page in a language, in order; commands stand in those without one."""
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text(page), re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == language]


def commands(page: Path) -> list[tuple[str, str]]:
    """(command, overrides) of each scoresde command in the code blocks of a page."""
    names = "|".join(sorted((p.stem.replace("_", " ") for p in (ROOT / "conf").glob("*.yaml")), reverse=True))
    return [
        found for block in blocks(page) for found in re.findall(rf"^scoresde ({names})\b([^#\n]*)", block, re.MULTILINE)
    ]


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.stem)
def test_every_command_composes(page):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from scoresde.cli.arguments import parted

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for command, rest in commands(page):
            command = command.replace(" ", "_")
            _, words = parted(command, shlex.split(rest))
            first = [re.sub(r"(=[^,\[({']+),.*", r"\1", word) for word in words]  # the first job of a sweep
            config = compose(command, overrides=[word for word in first if not word.startswith(PLUGINS)])
            for key, value in (word.lstrip("+").split("=", 1) for word in first):
                if "." in key and not key.startswith("hydra.") and not re.search(r"[{('\[]", value):
                    # what the command sets is what the program gets
                    assert OmegaConf.select(config, key) == OmegaConf.from_dotlist([f"value={value}"]).value


PLUGINS = ("hydra", "launcher=", "sweeper=", "hparams_search=")  # which may not be installed


SCRIPTS = [
    p for p in PAGES if ("```python" in text(p) and p.parent.name == "howto") or p.stem in ("quickstart", "extending")
]


@pytest.mark.filterwarnings("default")  # a newcomer's interpreter does not turn warnings into errors
@pytest.mark.parametrize("page", SCRIPTS, ids=lambda p: p.stem)
def test_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """All Python blocks of a page, in order, are one script."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "script.py"
    script.write_text("\n\n".join(blocks(page, "python")), encoding="utf-8")
    default = torch.get_default_dtype()
    runpy.run_path(str(script), run_name="__main__")
    assert torch.get_default_dtype() == default


def runnable(page: Path) -> list[tuple[str, str]]:
    """(command, further settings) of the commands below a comment <!-- run with: key=value ... -->.

    A Python block that begins with # NAME.py is a module that they may name.
    """
    found = re.findall(r"<!-- run with: ?([^\n]*?)-->\n```\n(.*?)```", text(page), re.DOTALL)
    return [(line, extra) for extra, block in found for line in block.splitlines() if line.startswith("scoresde ")]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", [p for p in PAGES if runnable(p)], ids=lambda p: p.stem)
def test_commands_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])  # before the folders of other tests
    for block in blocks(page, "python"):
        if module := re.match(r"# (\w+)\.py\n", block):
            (tmp_path / f"{module[1]}.py").write_text(block, encoding="utf-8")
            monkeypatch.setitem(sys.modules, module[1], None)  # taken back afterwards
            del sys.modules[module[1]]
    for line, extra in runnable(page):
        made = {path.name.startswith("sweep"): str(path.relative_to(tmp_path)) for path in tmp_path.glob("runs/*")}
        line = line.replace("runs/RUN", made.get(False, "")).replace("runs/SWEEP", made.get(True, ""))
        words = [*shlex.split(line, comments=True)[1:], *extra.split()]
        assert main(words) == 0
