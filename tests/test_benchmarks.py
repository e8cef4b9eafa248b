"""The benchmarks that are run by hand do run: in a tiny size, and where little is installed."""

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import GaussianMixture, Sampler
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
    done = script("gpu.py", *words, "--only", "checks", "--seconds", "2", "--out", str(other), before=broken)
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


def test_the_benchmark_of_auto_runs_and_keeps_its_peers(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="diffusers is installed with the extra dev")
    file, run = tmp_path / "auto.json", Path(__file__).parent / "fixtures/d14582e/run"
    words = ["--families", "blobs", "unnormalised", "--ranges", "1", "--budgets", "5", "--n", "8", "--steps", "3", "5"]
    pieces = tmp_path / "pieces.jsonl"
    words += ["--jobs", "2", "--cache", str(pieces), "--out", str(file)]
    done = script("auto.py", *words, "--run", str(run), missing=("azula",))
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    (row,) = found["runs"][0]["rows"]
    assert row["budget"] == 5
    assert all(found["runs"][0]["apart"] < error for error in (row["auto"], row["best fixed"][0], row["best peer"][0]))
    assert {tuple(row[:2]) for row in found["steps"]} == {("blobs", "subvp"), ("unnormalised", "cosine")}
    for name in ("auto", "dpmpp_2m karras"):
        for i, metric in enumerate(("median", "p95", "rms")):
            mean, low, high = found["means"][name]["all"][metric]
            each = [row[name][i] / row["of peers"][i] for row in found["cells"]]
            assert mean == pytest.approx(math.prod(each) ** 0.5, rel=0.01)
            assert low < high
    # all peers are in the file, and what was cut off is computed again
    *whole, last = sorted(pieces.read_text().splitlines(True))
    assert last.startswith('{"steps')
    pieces.write_text("".join(whole) + last[:50])
    again = script("auto.py", *words, missing=("azula", "diffusers"))
    assert again.returncode == 0, again.stderr
    assert {k: json.loads(file.read_text())[k] for k in ("cells", "steps")} == {k: found[k] for k in ("cells", "steps")}


def test_peers_take_any_path_and_members_are_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler reaches the exact endpoint of its own start also on paths that it does not know."""
    pytest.importorskip("diffusers", reason="diffusers is installed with the extra dev")
    monkeypatch.syspath_prepend(str(FOLDER))
    import families
    import peers
    import solvers

    for path in ("cosine", "rectified", "wide"):
        model = families.exact_model("blobs", 0, path)
        assert model.sigma_data == pytest.approx(1, abs=1e-9)
        z = torch.randn(8, *model.data.event_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        references = solvers.References(model.data, z)
        level, pool = model.sde.at(model.sde.t_start), peers.deterministic(model.sde)
        for name in (
            "diffusers edm dpmpp 2 midpoint True karras",
            "azula Heun ve denoised",
            "k-diffusion lms 4 polyexponential 1",
            "k-diffusion dpmpp_2s karras",
            "k-diffusion dpm_fast",
            "diffusers flow UniPCMultistep 2 1",
            "flow_matching midpoint uniform",
        ):
            if name not in pool:
                continue
            drawn = pool[name](model.data, z, 200)
            assert 199 <= drawn.calls <= 200
            assert "flow" in name or drawn.ratio == pytest.approx(level.sigma / level.alpha, rel=1e-5)
            assert float(references.distances(drawn.x, drawn.scale, drawn.ratio).median()) < 2e-3, (path, name)


def test_a_family_gets_the_setting_that_is_best_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import argparse

    import auto
    from families import cells

    wanted = argparse.Namespace(families=["blobs", "rings"], ranges=2, budgets=[5, 8], n=4)
    first, *_, last = auto.SETTINGS
    best, known = {"blobs": first, "rings": last}, {}
    for family, path in cells(wanted.families, wanted.ranges, 0):
        for name, budget in itertools.product(auto.SETTINGS, wanted.budgets):
            errors = [0.1] * 3 if name == best[family] else [0.2] * 3
            known[auto.key("other", auto.CODE, family, path, 0, wanted.n, name, budget)] = errors
    assert auto.left_out(known, wanted) == {"blobs": last, "rings": first}


def test_settings_are_in_force_for_their_samples_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import families
    from settings import SETTINGS, Setting

    model = families.exact_model("blobs", 0, "vp")

    def drawn(sampler: Sampler) -> Tensor:
        return sampler.sample(model, n=3).x

    plain = drawn(Sampler(steps=7))
    torch.testing.assert_close(drawn(Setting().sampler(model, 7)), plain, rtol=0, atol=0)
    own = [drawn(setting.sampler(model, 7)) for setting in SETTINGS.values()]
    assert len({x.numpy().tobytes() for x in own}) == len(SETTINGS)  # each changes something
    torch.testing.assert_close(drawn(Sampler(steps=7)), plain, rtol=0, atol=0)


def test_isotropic_mixtures_have_the_posterior_mean_of_general_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import families

    law = families.exact_model("unnormalised", 0, "vp").data
    x = torch.linspace(-1, 1, 10, dtype=torch.float64).reshape(5, 2)
    covariances = torch.diag_embed(law.variances)
    general, each = GaussianMixture(law.weights, law.means, covariances), torch.linspace(0.1, 0.9, 5)
    for alpha, sigma in ((0.6, 0.3), (each, 1 - each)):
        expected = general.posterior_mean(x, alpha, sigma)
        torch.testing.assert_close(law.posterior_mean(x, alpha, sigma), expected, rtol=1e-9, atol=1e-9)


def test_the_picture_of_auto_shows_the_errors_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import auto
    import auto_picture

    here = {name: other for name, other in auto_picture.OTHERS.items() if not other.solver.startswith("peer:")}
    monkeypatch.setattr(auto_picture, "OTHERS", here)
    monkeypatch.setattr(auto_picture, "BUDGETS", (6,))
    with torch.no_grad():
        found = auto_picture.curves(auto_picture.on_problem("rings", "vp", 2))
        model, references = auto.problem("rings", "vp", 1, 2)
        for name in auto_picture.AUTO:
            assert found[name] == [(6, float(auto.distances(model, references, auto.MAKE[name], 6).median()))]
    lines = {line.get_label(): line.get_xydata() for line in auto_picture.picture({"rings": found}).axes[0].lines}
    assert lines.keys() == {*here, *auto_picture.AUTO}
    assert all(lines[name].tolist() == [list(point) for point in points] for name, points in found.items())


def test_the_picture_of_posteriors_has_each_method_with_its_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import posterior_picture

    quick = {name: (method, Sampler(steps=4)) for name, (method, _) in posterior_picture.methods(20).items()}
    monkeypatch.setattr(posterior_picture, "methods", lambda n: quick)
    monkeypatch.setattr(posterior_picture, "DRAWS", 400)
    figure, distances = posterior_picture.plane(20)
    titles = [ax.get_title().splitlines()[0] for ax in figure.axes]
    assert titles[:2] == ["prior", "exact posterior"]
    assert titles[2:] == [f"{name}: {distances[name]:.1f}" for name in quick]
    assert distances["exact posterior"] < distances["prior"]
    cloud = figure.axes[1].collections[-1].get_offsets()
    assert abs(float(cloud[:, 0].mean()) - 0.3) < 0.1  # along the line
