"""The source archive carries what its tests need; the wheel built from it carries its configurations and trains."""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the source archive and of the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return folder


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="unpacked from such an archive")
def test_the_source_archive_holds_every_file_of_the_repository(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    assert set(listed) - held == set()


def test_wheel_trains_with_its_own_configs(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}  # before the editable install of this environment
    where = "import scoresde, scoresde.named as m; print(scoresde.__file__); print(m.config_folder())"
    found = subprocess.run([sys.executable, "-c", where], env=environment, cwd=work, capture_output=True, text=True)
    assert found.stdout.splitlines() == [f"{site}/scoresde/__init__.py", f"{site}/scoresde/conf"], found.stderr
    asked = [sys.executable, "-m", "scoresde", "sample", "--help"]
    told = subprocess.run(asked, env=environment, cwd=work, capture_output=True, text=True)
    assert re.search(r"  sampler\.steps +50 +the last one removes the remaining noise\n", told.stdout)
    command = [sys.executable, "-m", "scoresde", "train", "debug=tiny", "logger=none", "run=run"]
    subprocess.run(command, env=environment, cwd=work, check=True, capture_output=True)
    assert (work / "run" / "summary.json").exists()
