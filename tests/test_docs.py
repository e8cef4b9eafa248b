"""The pages of the site: their Python runs as it stands, their commands compose, their tables are those of conf/."""

import re
from pathlib import Path

import pytest

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


def commands(page: Path) -> list[tuple[str, str]]:
    """(command, overrides) of each scoresde command in the code blocks of a page."""
    blocks = re.findall(r"```(?:console)?\n(.*?)```", text(page), re.DOTALL)
    names = "|".join(p.stem for p in (ROOT / "conf").glob("*.yaml"))
    return [found for block in blocks for found in re.findall(rf"^scoresde ({names})\b([^#\n]*)", block, re.MULTILINE)]


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.stem)
def test_every_command_composes(page):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for command, rest in commands(page):
            overrides = [word.strip("'\"") for word in rest.split() if word not in ("-m", "--help")]
            first = [re.sub(r"(=[^,\[(]+),.*", r"\1", word) for word in overrides]  # the first job of a sweep
            config = compose(command, overrides=[word for word in first if not word.startswith("hydra/")])
            for word in first:
                key, value = word.lstrip("+").split("=", 1)
                if "." in key:  # what the command sets is what the program gets
                    assert OmegaConf.select(config, key) == OmegaConf.from_dotlist([f"value={value}"]).value
