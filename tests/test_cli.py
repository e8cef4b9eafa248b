"""The command line: trainings, samples, sweeps, resuming, and one line for each mistake."""

import contextlib
import csv
import json
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from scoresde import runs
from scoresde.build import build
from scoresde.cli import course
from scoresde.cli.main import main
from scoresde.sampling import Sampler
from scoresde.sweeps import record
from scoresde.training import Trainer, acceleration

SMALL = ["experiment=moons", "data.n=60", "model.net.width=8", "model.net.blocks=1", "logger=none"]
TINY = ["debug=tiny", *SMALL, "trainer.steps=4", "trainer.checkpoint_every=2", "n=6"]
# as small as a training can be: a table, since its pictures are drawn fast, and one sampler
FAST = ["debug=tiny", "model=mlp", "model.net.width=8", "data=array", "data.path=t.npy", "logger=none", "n=6"]
FAST += ["trainer.steps=4", "trainer.checkpoint_every=2", "~samplers.predictor_corrector", "~samplers.dopri5"]
PROGRAM = [sys.executable, "-c", "import sys; from scoresde.cli.main import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, with what was printed in printed.txt beside it; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    with contextlib.chdir(folder), Path("printed.txt").open("w") as file, contextlib.redirect_stdout(file):
        assert main(["train", *TINY]) == 0
        (run,) = (folder / "runs").iterdir()
    return run


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    """A finished run whose final samples are drawn fast; not to be changed."""
    folder = tmp_path_factory.mktemp("fast")
    np.save(folder / "t.npy", np.random.default_rng(0).normal(size=(60, 2)))
    with contextlib.chdir(folder):
        assert main(["train", *FAST, f"data.path={folder / 't.npy'}", "run=run"]) == 0
    return folder / "run"


@pytest.fixture
def copied(fast, here):
    """A finished run that may be changed."""
    shutil.copytree(fast, here / "run")
    return here / "run"


def failed(capsys, *arguments):
    """The one line that these arguments give."""
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err[len("error: ") : -1]


def summary(run):
    return json.loads((run / "summary.json").read_text())


def weights(run, step):
    return (run / "checkpoints" / f"step-{step:08d}" / "model.safetensors").read_bytes()


# ---- training ----


def test_a_training_leaves_a_complete_run(trained):
    names = {p.name for p in trained.iterdir()} - {".lock"}
    assert names == {"config.yaml", "metrics.jsonl", "summary.json", "checkpoints", "samples"}
    stored = summary(trained)["results"]
    results = {row["name"]: row for row in stored["rows"]}
    assert results["predictor_corrector"]["nfe"] == 9  # five steps, and a corrector after all but the last
    assert results["dpmpp_2m"]["nfe"] == 5
    floors = stored["floors"]["sliced_wasserstein"]
    best = min(r["values"]["sliced_wasserstein"][0] for r in results.values())
    assert summary(trained)["best"] == pytest.approx(best / np.mean(floors))
    assert {p.name for p in (trained / "samples").iterdir()} == {f"{name}.png" for name in [*results, "score"]}


def test_the_stored_config_has_numbers_in_place_of_measured(trained):
    text = (trained / "config.yaml").read_text()
    assert "measured" not in text
    assert yaml.safe_load(text)["model"]["sigma_data"] == pytest.approx(1)


def test_the_table_shows_every_sampler(trained):
    out = (trained.parents[1] / "printed.txt").read_text()
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert rows["sampler"][:8] == ["steps", "NFE", "seconds", "sliced", "W", "x", "floor", "nearest"]
    assert rows["dpmpp_2m"][:2] == ["5", "5"]
    assert rows["floor:"][:2] == ["real", "data"]
    assert rows["dopri5"][0] == "auto"
    assert rows["next"][:2] == ["scoresde", "sample"]


def test_a_seed_decides_the_weights(here):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert main(["train", *FAST, f"run={name}", f"seed={seed}"]) == 0
    assert weights(here / "a", 4) == weights(here / "b", 4) != weights(here / "c", 4)
    assert summary(here / "a")["best"] == summary(here / "b")["best"] != summary(here / "c")["best"]


def test_a_network_of_the_users_own(here, capsys):
    (here / "mynets.py").write_text(
        "from torch import nn, cat\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, event_shape: tuple[int, ...], width: int = 4):\n"
        "        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Linear(event_shape[0] + 1, width), nn.Tanh(), nn.Linear(width, 2))\n"
        "    def forward(self, x, c):\n"
        "        return self.body(cat((x, c[:, None]), 1))\n"
        "class Flat(Net):\n"
        "    def forward(self, x, c):\n"
        "        return super().forward(x, c)[:, :1]\n"
    )
    small = [s for s in FAST if not s.startswith("model")]
    own = ["model=custom", "allow=[mynets]", "+model.net.width=5"]
    assert main(["train", *small, *own, "model.net._target_=mynets.Net", "run=mine"]) == 0
    assert failed(capsys, "sample", "run=mine").startswith("model.net._target_: mynets.Net is not allowed")
    assert main(["sample", "run=mine", "allow=[mynets]", "n=3"]) == 0
    assert capsys.readouterr().err.startswith("grid for 50 steps from a pilot of ")
    line = failed(capsys, "train", *small, *own, "model.net._target_=mynets.Flat")
    assert line.startswith("model.net: Flat returned shape (2, 1) for an input of shape (2, 2)")
    line = failed(capsys, "train", *small, *own[:2], "model.net._target_=torch.nn.Identity")
    assert line.startswith("model.net: Identity cannot be called as net(x, c)")
    sys.modules.pop("mynets")


@pytest.fixture
def ours(here, monkeypatch):
    """A module of the user's in the working directory."""
    (here / "ours.py").write_text(
        "import numpy as np\n"
        "import scoresde\n"
        "class Path(scoresde.VPSDE): pass\n"
        "class Line:\n"
        "    def load(self): return scoresde.data.Array(np.linspace(0, 1, 80).reshape(40, 2)).load()\n"
        "class Rule(scoresde.sampling.Heun): pass\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("ours", None)


def test_classes_of_the_users_own_are_options(ours, capsys):
    small = [s for s in FAST if not s.startswith("data")]
    own = ["sde=custom", "sde._target_=ours.Path", "data=custom", "data._target_=ours.Line", "allow=[ours]"]
    assert (
        failed(capsys, "train", *small, *own, "name=a", "run=b") == "name: run= names the folder; leave one of them out"
    )
    assert main(["train", *small, *own, f"name=größe {'1' * 58}"]) == 0
    (run,) = Path("runs").iterdir()
    assert run.name[16:-7] == f"gr_e_{'1' * 58}"
    assert "name" not in runs.read_config(run)
    shutil.rmtree(run)
    assert main(["train", *small, *own]) == 0
    (run,) = Path("runs").iterdir()
    assert run.name[16:-7] == "Line-Path"  # without the time and the random end
    rule = ["solver=custom", "sampler.solver._target_=ours.Rule", "sampler.steps=3", "n=4"]
    assert main(["sample", f"run={run}", *rule, "allow=[ours]"]) == 0
    (drawn,) = (p for p in (run / "samples").iterdir() if p.is_dir())
    assert drawn.name.startswith("Rule-3-0")
    assert summary(drawn)["nfe"] == 5
    entry = "solvers=[heun,{solver:custom,_target_:ours.Rule,name:mine}]"
    few = ["problem=mixture_2d", "budgets=[9]", "n=20", "seeds=2", "reference.n=0", "logger=none", "out=out"]
    assert main(["compare", *few, entry, "allow=[ours]"]) == 0
    rows = {r["name"]: r["values"] for r in json.loads(Path("out/results.json").read_text())["rows"]}
    assert rows["mine"] == rows["heun"]


def test_a_sampler_that_fails_is_a_row(here, capsys):
    two = [s for s in FAST if "dopri5" not in s]
    grid = ["grid@samplers.dpmpp_2m.grid=list", "samplers.dpmpp_2m.grid.times=[1.0,0.5]"]
    assert main(["train", *two, "run=bad", *grid]) == 0
    assert "dpmpp_2m: times: 2 are given" in capsys.readouterr().out
    rows = {row["name"]: row for row in summary(here / "bad")["results"]["rows"]}
    assert rows["dpmpp_2m"]["error"]
    assert rows["dopri5"]["nfe"]


def test_samples_of_a_stopped_call_are_kept_and_continued(copied, capsys, monkeypatch):
    few = ["sample", f"run={copied}", "n=7", "batch_size=2", "solver=euler_maruyama", "sampler.steps=3"]
    assert main([*few, "out=whole"]) == 0
    batches, drawn = Sampler._batch, []

    def stopped(self, *arguments):
        drawn.append(1)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return batches(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "_batch", stopped)
        assert main([*few, "out=cut"]) == 130
    (hint,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("continue with: scoresde "))
    assert sorted(p.name for p in Path("cut").iterdir()) == ["parts"]
    drawn.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "_batch", lambda *arguments: drawn.append(1) or batches(*arguments))
        assert "parts of other samples" in failed(capsys, *few, "out=cut", "seed=1")
        assert main(shlex.split(hint.removeprefix("continue with: scoresde "))) == 0
    assert len(drawn) == 2  # batches: two of four had been drawn
    whole, cut = (np.load(f"{name}/samples.npz")["samples"] for name in ("whole", "cut"))
    assert (whole == cut).all()
    assert sorted(p.name for p in Path("cut").iterdir()) == sorted(p.name for p in Path("whole").iterdir())


# ---- going on with a run ----


def test_a_run_with_an_odd_name_and_the_hints_for_it(here, capsys):
    assert main(["train", *FAST, "run=ü (1)/it's"]) == 0
    (line,) = (text for text in capsys.readouterr().out.splitlines() if text.startswith("next "))
    assert main([*shlex.split(line)[2:4], "n=3", "out=#1 [a]"]) == 0
    assert summary(here / "#1 [a]")["run"] == "ü (1)/it's"
    assert main(["train", "run=ü (1)/it's"]) == 0
    assert "ü (1)/it's is complete" in capsys.readouterr().out


def test_a_run_goes_on_in_processes_that_know_what_was_typed(copied, monkeypatch):
    asked = []

    def launch(_, work):
        def call(*given):
            sent = pickle.dumps(given)
            GlobalHydra.instance().clear()  # as in a process that has just begun
            monkeypatch.setattr(course, "in_processes", lambda name, count, cfg, hint: asked.append(cfg["trainer"]))
            return {0: work(*pickle.loads(sent))}

        return call

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", launch)
    monkeypatch.setattr(course, "require_devices", lambda count, device, key: None)
    assert main(["train", f"run={copied}", "trainer.steps=8", "trainer.micro_batch=8", "trainer.devices=2"]) == 0
    assert [trainer["steps"] for trainer in asked] == [8]


def test_a_finished_run_says_so_and_is_left_alone(copied, capsys):
    before = (copied / "summary.json").read_bytes()
    assert main(["train", f"run={copied}"]) == 0
    assert "is complete" in capsys.readouterr().out
    assert (copied / "summary.json").read_bytes() == before


def test_more_steps_go_on_from_the_last(copied, capsys):
    assert main(["train", f"run={copied}", "trainer.steps=8", "n=5", "device=cpu"]) == 0
    assert "resuming at step 4" in capsys.readouterr().out
    assert (summary(copied)["step"], summary(copied)["n"]) == (8, 5)
    assert runs.read_config(copied)["trainer"]["steps"] == 8


@pytest.mark.parametrize(
    ("change", "both"),
    [
        ("sde=ve", "sde._target_: this run was trained with 'scoresde.VPSDE', not 'scoresde.VESDE'"),
        ("sde.beta_min=0.2", "sde.beta_min: this run was trained with 0.1, not 0.2"),
        ("seed=1", "seed: this run was trained with 0, not 1"),
        ("data=rings", "data._target_: this run was trained with 'scoresde.data.Moons', not 'scoresde.data.Rings'"),
        ("optimizer=muon", "optimizer: Muon cannot resume from the state of Adam"),
        ("experiment=digits_ve", "this run was trained with 'scoresde.VPSDE', not 'scoresde.VESDE'"),
        ("trainer.steps=3", "trainer.steps: 3 is fewer than the 4 that"),
    ],
)
def test_what_the_weights_mean_may_not_change(trained, capsys, change, both):
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    said = failed(capsys, "train", f"run={trained}", change)
    assert both in said
    assert "init=" in said or "steps" in change
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before


def test_settings_of_the_training_may_change_and_are_recorded(copied):
    own = ["optimizer.lr=0.001", "trainer.batch_size=8", "trainer.ema=[0.999,0.9]", "loss=noise"]
    assert main(["train", f"run={copied}", "trainer.steps=6", *own]) == 0
    assert main(["train", f"run={copied}", "trainer.steps=8", "trainer.clip=0.5"]) == 0
    first, second = runs.load(copied, weights="ema-0.9").history
    assert {k: first["changed"][k] for k in ("optimizer.lr", "trainer.batch_size", "trainer.steps")} == {
        "optimizer.lr": [0.002, 0.001],
        "trainer.batch_size": [16, 8],
        "trainer.steps": [4, 6],
    }
    assert first["step"] == 4
    assert second == {"step": 6, "changed": {"trainer.clip": [1.0, 0.5], "trainer.steps": [6, 8]}}


def test_a_number_without_a_point_is_a_number(copied):
    file = copied / "config.yaml"
    file.write_text(file.read_text().partition("\n")[2].replace("lr: 0.002", "lr: 2e-3"))
    assert runs.read_config(copied)["optimizer"]["lr"] == 0.002


def test_repeating_the_command_of_a_run_is_no_change(trained, capsys):
    assert main(["train", *TINY, f"run={trained}"]) == 0
    assert "is complete" in capsys.readouterr().out


def test_a_deleted_number_of_steps_is_that_of_the_trainer(copied, monkeypatch):
    asked = []
    monkeypatch.setattr("scoresde.workflows.job.Job.run", lambda job, *a, **k: asked.append(job.trainer.steps) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["train", f"run={copied}", "~trainer.steps"])
    assert asked == [Trainer().steps]


def test_a_damaged_newest_checkpoint_is_stepped_over(copied, capsys):
    file = copied / "checkpoints" / "step-00000004" / "ema.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    good = weights(copied, 4)
    assert main(["sample", f"run={copied}", "n=3"]) == 0
    assert "is damaged" in capsys.readouterr().err
    assert main(["train", f"run={copied}"]) == 0
    assert weights(copied, 4) == good  # trained again from step 2, to the bit


def test_a_folder_in_use_is_refused(copied, capsys):
    with runs.locked(copied):
        assert "is in use by another program" in failed(capsys, "train", f"run={copied}")


def test_a_signal_saves_and_the_run_can_go_on(here):
    settings = [s for s in FAST if s != "logger=none"]  # with Weights & Biases, offline
    command = [*PROGRAM, "train", *settings, "run=run", "trainer.steps=1000000", "trainer.log_every=1", "n=6"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=here)
    deadline = time.monotonic() + 60
    while not (here / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "resume with: scoresde train run=run" in err
    assert "Traceback" not in err
    assert len(list((here / "run" / "wandb").glob("offline-run-*"))) == 1
    done = max(int(p.name[5:]) for p in (here / "run" / "checkpoints").glob("step-*"))
    assert main(["train", "run=run", f"trainer.steps={done + 2}", "logger=none"]) == 0
    assert summary(here / "run")["step"] == done + 2


# ---- sampling ----


@pytest.mark.parametrize(("nfe", "arguments"), [(5, ["solver=heun"]), (3, ["solver=auto", "batch_size=2"])])
def test_samples_are_written_whole(trained, here, nfe, arguments, capsys):
    assert main(["sample", f"run={trained}", "out=drawn", "n=7", "sampler.steps=3", *arguments]) == 0
    x = np.load(here / "drawn" / "samples.npz")["samples"]
    assert (x.shape, x.dtype) == ((7, 2), np.float32)
    loaded = runs.load(trained)
    sampler = build(summary(here / "drawn")["sampler"], run=trained)
    expected = sampler.sample(loaded.model, (2,), 7)
    np.testing.assert_allclose(x, loaded.transform.finish(expected.x), atol=1e-5)
    assert {p.name for p in (here / "drawn").iterdir()} == {"samples.npz", "samples.png", "summary.json"}
    assert summary(here / "drawn")["nfe"] == nfe
    choices = summary(here / "drawn").get("choices")
    assert (choices and choices["mean"]) == (expected.choices and pytest.approx(expected.choices.mean, abs=1e-4))
    assert ("auto took" in capsys.readouterr().out) == (expected.choices is not None)


@pytest.mark.parametrize("solver", ["heun", "scipy", "torchdiffeq"])
def test_the_way_from_noise_to_data_is_drawn_beside_the_samples(trained, here, solver, capsys):
    plain = ["sample", f"run={trained}", f"solver={solver}", "sampler.steps=7", "n=30"]
    assert main([*plain, "out=plain"]) == 0
    assert main([*plain, "out=way", "sampler.path=true"]) == 0
    pictures = {"strip.png", "film.gif", "flow.png"}
    assert {p.name for p in Path("way").iterdir()} == {p.name for p in Path("plain").iterdir()} | pictures
    assert summary(here / "way")["sampler"] == summary(here / "plain")["sampler"]
    assert summary(here / "way")["nfe"] == summary(here / "plain")["nfe"]
    np.testing.assert_array_equal(*(np.load(f"{d}/samples.npz")["samples"] for d in ("plain", "way")))
    with Image.open("way/film.gif") as film:
        assert film.n_frames == 8  # the prior and what each step of the grid leads to
    assert "path: strip.png, film.gif, flow.png" in capsys.readouterr().out


def test_many_samples_need_no_more_memory_than_a_batch(trained, here):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many = ["solver=ddim", "n=3000000", "batch_size=100000", "sampler.steps=1", "out=many"]
    assert main(["sample", f"run={trained}", *many]) == 0
    assert np.load(here / "many" / "samples.npz")["samples"].shape == (3000000, 2)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000  # kilobytes; all samples and their intermediates would be several times as much


def test_tables_come_as_csv_too(here):
    rng = np.random.default_rng(0)
    np.savetxt("t.csv", rng.normal(1000, 1, (40, 3)), delimiter=",", header="a,b,c", comments="")
    assert main(["train", *FAST, "data.path=t.csv", "run=run"]) == 0
    Path("t.csv").unlink()  # sampling needs no data
    assert main(["sample", "run=run", "out=drawn", "n=5"]) == 0
    with Path("drawn/samples.csv").open(newline="") as file:
        names, *rows = csv.reader(file)
    assert names == ["a", "b", "c"]
    np.testing.assert_array_equal(np.array(rows, float), np.load("drawn/samples.npz")["samples"].astype(float))


def test_precision_and_compilation_are_those_of_the_network(trained, here, monkeypatch):
    compiled = []
    monkeypatch.setattr(acceleration, "_BACKEND", lambda module, inputs: compiled.append(module) or module.forward)
    plain = ["sample", f"run={trained}", "solver=heun", "sampler.steps=8", "n=50"]
    drawn = {}
    for name, typed in {"plain": [], "half": ["precision=bf16"], "fast": ["compile=true"]}.items():
        assert main([*plain, f"out={name}", *typed]) == 0
        drawn[name] = np.load(f"{name}/samples.npz")["samples"]
        assert bool(compiled) == (name == "fast")
    np.testing.assert_allclose(drawn["fast"], drawn["plain"], atol=1e-5)
    error = np.abs(drawn["half"] - drawn["plain"]).max() / drawn["plain"].std()
    assert 2**-20 < error < 2**-9  # products round to 2^-9, and this network is small beside its skip connection
    in_half = drawn["half"].view(np.uint32) & 0xFFFF == 0  # whether the state were in bf16 too
    assert in_half.mean() < 0.1
    assert (summary(here / "half")["precision"], summary(here / "fast")["compile"]) == ("bf16", True)
    few = [f"run={trained}", "solvers=[heun]", "budgets=[15]", "n=20", "seeds=2", "reference.n=0", "logger=none"]
    for name, precision in (("a", "float32"), ("b", "bf16")):
        assert main(["compare", *few, f"precision={precision}", f"out={name}"]) == 0
    a, b = (json.loads(Path(f"{n}/results.json").read_text())["rows"][0]["values"]["sliced_wasserstein"] for n in "ab")
    assert a != b
    np.testing.assert_allclose(a, b, rtol=0.05)


def test_a_sweep_of_samplers(trained, here, capsys):
    known = set((trained / "samples").iterdir())
    assert main(["sample", f"run={trained}", "solver=heun,ddim", "sampler.steps=2,3", "-m", "n=4"]) == 0
    made = {p.name.rsplit("-", 1)[0] for p in set((trained / "samples").iterdir()) - known}
    assert made == {"heun-2-0", "heun-3-0", "ddim-2-0", "ddim-3-0"}
    assert capsys.readouterr().out.count("network evaluations each") == 4
    (sweep,) = (here / "runs").iterdir()
    assert {(sweep / job.folder).resolve().parent for job in record.jobs(sweep)} == {trained / "samples"}


def test_samples_that_cannot_be_drawn_leave_nothing(trained, here, capsys):
    known = set((trained / "samples").iterdir())
    rule = ["solver=ddim", "corrector=langevin", "sampler.corrector.rule=norm"]
    assert failed(capsys, "sample", f"run={trained}", *rule).startswith("rule: 'norm' has no correct limit in 2 dim")
    assert set((trained / "samples").iterdir()) == known


# ---- sweeps ----


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local", "ray"])
def test_a_sweep_has_a_folder_for_each_job(here, launcher, monkeypatch):
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    root = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]))
    jobs = ["hydra.launcher.n_jobs=1"] if launcher == "joblib" else ["name=mine"] if launcher == "basic" else []
    assert main(["train", "-m", "sde=vp,ve", "seed=0,1", *FAST, f"launcher={launcher}", *jobs]) == 0
    (sweep,) = (here / "runs").iterdir()
    names = {p: p.name.rsplit("-", 1)[0].split("-", 1) for p in sweep.glob("[0-9]*")}
    assert {label.startswith("mine-") for _, label in names.values()} == {launcher == "basic"}
    made = {f"{number}-{label.removeprefix('mine-')}": p for p, (number, label) in names.items()}
    assert set(made) == {"1-sde_vp-seed_0", "2-sde_vp-seed_1", "3-sde_ve-seed_0", "4-sde_ve-seed_1"}
    assert runs.read_config(made["3-sde_ve-seed_0"])["sde"]["_target_"] == "scoresde.VESDE"
    assert all((p / "summary.json").exists() for p in made.values())
    rows = list(csv.DictReader((sweep / "table.csv").read_text().splitlines()))
    assert sorted((row["sde"], row["seeds"]) for row in rows) == [("ve", "2"), ("vp", "2")]


def test_the_other_jobs_of_a_sweep_finish(here, capsys):
    assert main(["train", "-m", "sde.beta_min=-1,0.1,x", *FAST]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "error: job 1 of 3 (sde.beta_min=-1): sde.beta_min: -1.0 is not allowed; give a number > 0",
        "error: job 3 of 3 (sde.beta_min=x): sde.beta_min: 'x' is not a number > 0",
    ]
    (sweep,) = (here / "runs").iterdir()
    assert len([*sweep.glob("*-sde*")]) == 1


def test_a_fault_of_the_program_keeps_its_traceback(here, capsys, monkeypatch):
    monkeypatch.setattr("scoresde.cli.course.Course._opening", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["train", *FAST])
    assert main(["train", "-m", "seed=0,1", *FAST]) == 1
    err = capsys.readouterr().err
    assert err.count("Traceback") == 2
    assert err.splitlines()[-1] == "error: job 2 of 2 (seed=1): ZeroDivisionError: division by zero"


# ---- mistakes ----


def test_unknown_keys_are_found_before_torch_is_imported():
    code = (
        "import sys; from scoresde.cli.main import main; code = main(['train', 'sde.betamin=1']); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "error: sde.betamin: no such key; did you mean sde.beta_min?\n"
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("sde.betamin=1", "sde.betamin: no such key; did you mean sde.beta_min?"),
        ("beta_min=1", "beta_min: no such key; did you mean sde.beta_min?"),
        ("traner.steps=5", "traner.steps: no such key; did you mean trainer.steps?"),
        ("epochs=3", "epochs: no such key; training is counted in steps, of trainer.batch_size items each; "),
        ("lr=1", "lr: no such key; did you mean optimizer.lr?"),
        ("steps=1", "steps: no such key; did you mean trainer.steps?"),
        ("batch_size=1", "batch_size: no such key; did you mean trainer.batch_size?"),
        (f"name={'x' * 65}", f"name: '{'x' * 65}' is not allowed; give at most 64 characters"),
        ("sampler=heun", "sampler: no such key; did you mean solver@samplers.dpmpp_2m.solver?"),
        ("num_workers=1", "num_workers: no such key; data are read by the program itself; there is nothing to set"),
        ("guidance=2", "guidance: no such key here; it belongs to scoresde sample, compare, evaluate, tune"),
        ("foo=2", "foo: no such key; scoresde train --help lists all there are"),
        ("data=cifar10", "data=cifar10: data has no option cifar10; did you mean data=huggingface data.path="),
        ("metrics=3", "metrics=3: metrics has no option 3 (options: c2st, calibration, classifier, copies, custom, "),
        ("optimizer.betas=[0.9]", "optimizer.betas: [0.9] is not a list of 2 numbers"),
        ("sde=vpp", "sde=vpp: sde has no option vpp; did you mean vp? (options: cosine, custom, discrete, drift, "),
        ("experiment=moon", "experiment=moon: experiment has no option moon; did you mean moons? (options: "),
        ("sde={betamin:1}", "sde.betamin: no such key; did you mean sde.beta_min?"),
        ("samplers={own:{steps:5}}", "samplers.own: not in the configuration; to add it write +samplers.own="),
        ("metrics=[nosuch]", "metrics=nosuch: metrics has no option nosuch (options: c2st, "),
        ("optimizer.betas={a:1}", "optimizer.betas: {a:1} is not of its kind; see scoresde train --help"),
        ("+hydra.callbacks.a._target_=os.system", "+hydra.callbacks.a._target_: it is set by scoresde; leave it out"),
        ("sde", "sde: not a setting; write key=value"),
        ("seed=[1", "seed=[1: not a setting; write key=value"),
        ("seed=0,1", "seed=0,1: several values; add -m to run each of them, or write seed=[0,1] for one list"),
        ("n=1,000", "n=1,000: several values; add -m to run each of them, or write n=[1,000] for one list, or n=1000"),
        ("run=a,b", "run=a,b: several values; add -m to run each of them, or for one name write \"run='a,b'\""),
        ("loss=null", "loss=null: it cannot be left out; give one of binomial, custom, edm, "),
        ("loss=sliced", "sde: VPSDE is not allowed; SlicedScoreMatching has no noise levels: it learns "),
        ("sde=None", "sde=null: it cannot be left out; give one of cosine"),
        ("hydra.job.chdir=true", "hydra.job.chdir=true: paths are seen from the working directory, "),
        (
            "model.net.condition=5",
            "model.net.condition: 5 is not one of class, vector, tokens, image or a mapping of names",
        ),
        ("trainer.compile=1", "trainer.compile: 1 is not true or false"),
        ("sde.beta_min=${nothing}", "sde.beta_min: Interpolation key 'nothing' not found"),
        ("model=custom", "model.net._target_: not given; name your class: model.net._target_="),
        ("sde=custom", "sde._target_: not given; name your class: sde._target_=mypackage.MyClass allow=[mypackage]"),
        ("+foo=1", "foo: no such key (keys: "),
        ("++sed=1", "sed: no such key; did you mean seed? (keys: "),
        ("~sde", "sde: it is empty or was deleted, and this command needs it"),
        ("--foo", "--foo: no such flag"),
        ("--multrun", "--multrun: no such flag; did you mean --multirun?"),
        ("--experimental-rerun=x", "--experimental-rerun: no such flag"),
        ("n=1e3", "n: 1000.0 is not an integer >= 1; write 1000"),
        ("seed=abc", "seed: 'abc' is not an integer >= 0"),
        ("device=gpu", "device: gpu is not there, there are no CUDA devices on this machine; give auto, cpu"),
        ("+sde.betamin=1", "sde.betamin: scoresde.VPSDE has no such argument; did you mean sde.beta_min?"),
        ("sde._target_=os.system", "sde._target_: os.system is not allowed"),
        ("trainer.steps=-5", "trainer.steps: -5 is not allowed; give an integer >= 1"),
        (
            "trainer.monitor=fid",
            "trainer.monitor: 'fid' is not measured in this training; give one of heldout_loss, ",
        ),
        ("optimizer.lr=-1", "optimizer.lr: -1.0 is not allowed"),
        ("model.net.channels=-3", "model.net.channels: -3 is not allowed"),
        ("model.sigma_data=wide", "model.sigma_data: 'wide' is not a number > 0"),
        ("samplers.dopri5.steps=0", "samplers.dopri5.steps: 0 is not allowed; give an integer >= 1"),
        ("corrector@samplers.dopri5.corrector=langevin", "samplers.dopri5.corrector: TorchDiffEq takes its own steps"),
        ("data=moons", "model.net.event_shape: (2,) is not allowed; a U-Net takes series, images or volumes"),
        ("data.held_out=2", "data.held_out: 2.0 is not allowed"),
        ("data=array", "data.path: not given; e.g. data.path=table.csv"),
        ("run=file.txt", "run: file.txt is a file; give a folder"),
        ("run=full", "run: full is not empty and not the folder of a run; give a new folder, or that of a run"),
    ],
)
def test_a_mistake_in_a_training_is_one_line_and_leaves_nothing(here, capsys, monkeypatch, typed, line):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Path("file.txt").write_text("")
    Path("full").mkdir()
    Path("full/file.txt").write_text("")
    assert failed(capsys, "train", "logger=none", typed).removeprefix("logger=none ").startswith(line)
    assert sorted(p.name for p in here.rglob("*")) == ["file.txt", "file.txt", "full", "t.npy"]


def test_the_best_checkpoint_can_be_that_of_the_best_samples(here, capsys):
    assert main(["train", "debug=tiny", "logger=none", "run=run", "trainer.monitor=sliced_wasserstein"]) == 0
    best = json.loads(Path("run/checkpoints/best.json").read_text())
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    measured = {row["step"]: row["sliced_wasserstein"] for row in rows if "sliced_wasserstein" in row}
    assert set(measured) == {0, 10, 20}
    assert best["metric"] == "sliced_wasserstein"
    assert best["value"] == min(v for step, v in measured.items() if step > 0) == measured[best["step"]]


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["sde=ve", "sde.sigma_min=5", "sde.sigma_max=1"], "sde.sigma_max: 1.0 is not allowed; give a value > "),
        (["sde=ve", "sde.sigma_min=500"], "sde.sigma_max: "),
        (["sde=edm", "sde.sigma_min=100"], "sde.sigma_max: 80.0 is not allowed; give a value > sigma_min = 100.0"),
        (["model=custom", "model.net.width=3"], "model.net.width: not in the configuration; to give your own class "),
        (["sde=custom", "sde.k=3"], "sde.k: not in the configuration; to give your own class an argument write +"),
        (["sde=custom", "sde._target_=nowhere.A", "allow=[nowhere]"], "sde._target_: there is no module nowhere in /"),
        (["model=custom", "model.net._target_=evil.Net"], "model.net._target_: evil.Net is not allowed; "),
        (["data=array", "model=mlp", "data.path=text.csv"], "data.path: text.csv, line 3, column 2 (b): 'x' is "),
        (["data=array", "model=mlp", "data.path=nan.npy"], "data.path: nan.npy holds NaN or infinite values"),
        (["data=array", "model=mlp", "data.path=nothing.csv"], "data.path: nothing.csv does not exist"),
        (["data=folder", "data.path=mixed"], "data.size: not given, but "),
        (["data=folder", "data.path=."], "data.size: not given, but "),
    ],
)
def test_several_settings_together(here, capsys, typed, line):
    Path("text.csv").write_text("a,b\n1,2\n3,x\n")
    np.save("nan.npy", np.array([[1.0], [np.nan]]))
    Path("mixed").mkdir()
    for size in (4, 5):
        Image.new("RGB", (size, 4)).save(f"mixed/{size}.png")
    assert failed(capsys, "train", "logger=none", *typed).startswith(line)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ([], "run: not given; give a folder made by scoresde train"),
        (["run=nowhere"], "run: there is no folder nowhere"),
        (["run=nowhere", "steps=3"], "steps: no such key; did you mean sampler.steps?"),
        (["run=nowhere", "sampler=ddim"], "sampler=ddim: a sampler has several parts; write solver=ddim"),
        (["run=nowhere", "solver=dpm++"], "solver=dpm++: solver has no option dpm++; did you mean solver=dpmpp_2m? ("),
        (["run=nowhere", "solver=DPM++-3M"], "solver=DPM++-3M: solver has no option DPM++-3M; did you mean solv"),
        (["run=nowhere", "label=a"], "label: 'a' is not an integer, a list of integers or null"),
        (["run=nowhere", "solver=huen"], "solver=huen: solver has no option huen; did you mean heun? (options: "),
        (["run=RUN", "checkpoint=77"], "checkpoint: 77 is not in "),
        (["run=RUN", "n=-1"], "n: -1 is not allowed; give an integer >= 1"),
        (["run=RUN", "weights=avg"], "weights: 'avg' is not one of ema, raw"),
        (["run=RUN", "sampler.steps=0"], "sampler.steps: 0 is not allowed; give an integer >= 1"),
        (["run=RUN", "solver=heun", "sampler.eta=1"], "sampler.eta: 1.0 is not possible with Heun"),
        (["run=RUN", "solver=torchdiffeq", "corrector=langevin"], "sampler.corrector: TorchDiffEq takes its own steps"),
        (["run=RUN", "sampler.path=5"], "sampler.path: 5 is not true or false"),
        (["run=RUN", "out=file.txt"], "out: no folder can be made here"),
        (["run=RUN", "out=RUN"], "out: RUN is the folder of a run, whose files would be replaced; give another folder"),
    ],
)
def test_a_mistake_in_sampling_is_one_line(trained, here, capsys, typed, line):
    Path("file.txt").write_text("")
    said = failed(capsys, "sample", *(t.replace("RUN", str(trained)) for t in typed))
    assert said.replace(str(trained), "RUN").startswith(line)


def test_a_run_without_checkpoint_and_a_checkpoint_of_another_architecture(copied, capsys):
    config = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(config.partition("\n")[2].replace("width: 8", "width: 16"))
    assert "of another architecture" in failed(capsys, "sample", f"run={copied}")
    assert "of another architecture" in failed(capsys, "train", f"run={copied}", "trainer.steps=9").splitlines()[-1]
    shutil.rmtree(copied / "checkpoints")
    assert "no checkpoint" in failed(capsys, "sample", f"run={copied}")


def test_a_training_that_diverges_stops_in_one_line(here, capsys):
    hot = ["optimizer.lr=1e12", "trainer.clip=0", "trainer.warmup=0", "trainer.steps=20"]
    line = failed(capsys, "train", *FAST, *hot)
    assert "diverged at step" in line
    assert "noise level" in line


# ---- around it ----


def test_the_overview_and_the_version(capsys):
    assert main([]) == main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("train", "sample", "doctor", "scoresde sample run=runs/RUN"))
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("scoresde ")
    assert (
        failed(capsys, "trian")
        == "trian: no such command; did you mean scoresde train? (commands: train, sample, compare, evaluate, "
        "evaluate selftest, tune, classifier, ema, doctor, convert, collect, list, status)"
    )


def test_a_reader_that_goes_away_is_no_error():
    command = " ".join(f"'{word}'" for word in PROGRAM) + " --help"
    done = subprocess.run(f"{command} | true", shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_flags_and_settings_may_be_mixed(capsys):
    assert main(["train", "sde=ve", "--cfg", "job", "seed=7", "-p", "sde", "sde.sigma_min=0.5"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["sigma_min"] == 0.5
