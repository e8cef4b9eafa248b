"""The built wheel carries its configurations and trains, away from the repository."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_wheel_trains_with_its_own_configs(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
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
    assert "  sampler.steps       50        the last one removes the remaining noise\n" in told.stdout
    command = [sys.executable, "-m", "scoresde", "train", "debug=tiny", "logger=none", "run=run"]
    subprocess.run(command, env=environment, cwd=work, check=True, capture_output=True)
    assert (work / "run" / "summary.json").exists()
