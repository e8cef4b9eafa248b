"""The benchmarks that are run by hand do run: in a tiny size, and where little is installed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scoresde.sampling import Solver

FOLDER = Path(__file__).parents[1] / "benchmarks"
# what the GPU script must do without; modules set to None cannot be imported
NEEDLESS = (
    "hydra", "omegaconf", "wandb", "pydantic", "safetensors", "sklearn", "matplotlib", "PIL", "tqdm", "yaml", "pandas",
    "diffusers", "datasets", "torchvision",
)  # fmt: skip


def script(name: str, *arguments: str, missing: tuple[str, ...] = (), before: str = "") -> Any:
    """Run a script of benchmarks/ as a program of its own, as if some packages were not installed."""
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(FOLDER)!r})\n"
        f"for name in {missing!r}: sys.modules[name] = None\n"
        f"{before}\n"
        f"sys.argv = [{name!r}, *{arguments!r}]; runpy.run_path({str(FOLDER / name)!r}, run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


def rows(file: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["section"], row["name"]): row for row in json.loads(file.read_text())["rows"]}


def test_every_solver_that_is_compared_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import solvers

    names = solvers.deterministic()
    assert {"auto", "ddim", "dpmpp_2m", "heun"} <= set(names)
    assert all(isinstance(solvers.option("solver", name), Solver) for name in names)


def test_the_gpu_script_runs_on_a_cpu_with_little_installed(tmp_path: Path) -> None:
    file = tmp_path / "new" / "gpu.json"
    done = script("gpu.py", "--device", "cpu", "--quick", "--out", str(file), missing=NEEDLESS)
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(file)
    assert not [row for row in found.values() if "error" in row]
    checks = [row for (section, _), row in found.items() if section == "checks"]
    assert len(checks) > 12
    assert [row["passed"] for row in checks if "skipped" not in row] == [True] * (len(checks) - 1)
    assert found["checks", "U-Net against float64, fp32"]["gradient_error"] > 0  # they were compared with something
    for section, name, figure in (
        ("matmul", "matmul 256, fp32", "tflops"),
        ("training", "UNet, fp32", "images_per_second"),
        ("training", "UNet, bf16 + channels_last", "of_matmul_peak"),
        ("sampling", "dpmpp_2m, 20 steps, fp32", "seconds_per_1000"),
        ("peers", "dopri5 of torchdiffeq, 1e-3, bf16", "nfe"),
    ):
        assert found[section, name][figure] > 0
    assert found["sampling", "dpmpp_2m, 20 steps, fp32"]["nfe"] == 20
    assert found["peers", "dpmpp_2m of diffusers, 20 calls, bf16"]["skipped"] == "diffusers is missing"
    content = json.loads(file.read_text())
    assert {"date", "cpu", "torch", "python", "threads", "device"} <= content.keys()
    assert str(file) in done.stdout
    assert all(row["name"] in done.stdout for row in content["rows"])


def test_the_gpu_script_says_what_is_missing_what_fails_and_when_time_is_up(tmp_path: Path) -> None:
    file, other = tmp_path / "a.json", tmp_path / "b.json"
    words = ["--device", "cpu", "--quick"]
    done = script("gpu.py", *words, "--only", "peers", "--out", str(file), missing=(*NEEDLESS, "torchdiffeq"))
    assert done.returncode == 0, done.stderr
    assert rows(file)["peers", "dopri5 of torchdiffeq, 1e-3, bf16"]["skipped"] == "torchdiffeq is missing"
    broken = (
        "import time, torch, gpu_checks\n"
        "gpu_checks.SAME[torch.float64] = -1.0\n"  # no error is as small
        "gpu_checks.small_unet = lambda: [0][1]\n"
        "gpu_checks._history = lambda device: time.sleep(60)\n"
    )
    done = script("gpu.py", *words, "--only", "checks", "--seconds", "6", "--out", str(other), before=broken)
    assert done.returncode == 1, done.stderr
    found = rows(other)
    assert found["checks", "mixture, ddim, float64"]["passed"] is False
    assert found["checks", "U-Net against float64, fp32"]["error"] == "IndexError: list index out of range"
    assert found["checks", "loss history"]["skipped"] == "no time left"
    said = done.stdout.splitlines()[-1]
    assert said.startswith("checks that do not hold: mixture, ddim, float64, ")
    assert "U-Net against float64, fp32" in said


def test_without_a_gpu_the_script_says_so() -> None:
    done = script(
        "gpu.py", "--device", "cuda", "--quick", before="import torch; torch.cuda.is_available = lambda: False"
    )
    assert done.returncode == 2
    assert "there is no CUDA device here; give --device cpu --quick" in done.stderr


def test_the_variance_benchmark_shows_that_importance_lowers_the_variance(tmp_path: Path) -> None:
    file = tmp_path / "variance.json"
    done = script("variance.py", "--quick", "--batches", "40", "--out", str(file))
    assert done.returncode == 0, done.stderr
    found = {(row["loss"], row["times"]): row for row in json.loads(file.read_text())["rows"]}
    assert len(found) == 12
    for loss in ("edm", "noise", "likelihood"):
        base = found[loss, "independent"]
        assert base["loss_variance_ratio"] == [1.0, 1.0, 1.0]
        for times in ("stratified", "importance", "both"):
            row = found[loss, times]
            low, high = row["loss_variance_ratio"][1:]
            assert low < row["loss_variance_ratio"][0] < high
    # what is not subtle must be seen in few batches
    assert found["noise", "stratified"]["loss_variance_ratio"][0] < 0.9
    for times in ("importance", "both"):
        assert found["noise", times]["loss_variance_ratio"][2] < 0.8
        assert found["noise", times]["gradient_variance_ratio"][2] < 0.8
        assert found["likelihood", times]["gradient_variance_ratio"][0] < 0.3
        difference = abs(found["noise", times]["mean"] - found["noise", "independent"]["mean"])
        assert difference < 5 * found["noise", "independent"]["mean_error"]
