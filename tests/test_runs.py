"""A run folder as a training writes it, and the way back by `load`, also from people who are not to be trusted."""

import json
import subprocess
import sys

import pytest
import torch
import yaml
from support import exact_model, mixture, sde_named

from scoresde import VPSDE, InputError, Likelihood, Sampler, ScoreModel, compare, runs
from scoresde._secrets import REMOVED
from scoresde.data import ArrayFile, Moons
from scoresde.loss import DenoisingScoreMatching
from scoresde.nets import ResidualMLP
from scoresde.runs import load
from scoresde.runs.samples import draw
from scoresde.sampling import Heun
from scoresde.training import Trainer

CONFIG = {
    "sde": {"_target_": "scoresde.VPSDE", "beta_max": 15.0},
    "model": {
        "_target_": "scoresde.ScoreModel",
        "sigma_data": 1.0,
        "net": {"_target_": "scoresde.nets.ResidualMLP", "width": 8, "blocks": 1},
    },
    "data": {"_target_": "scoresde.data.Moons", "n": 50},
}


def train(path):
    """A short training into a folder: its result, and the model as it is in memory."""
    dataset = Moons(n=50).load()
    torch.manual_seed(0)
    model = ScoreModel(ResidualMLP((2,), width=8, blocks=1), VPSDE(beta_max=15.0), sigma_data=1.0)
    path.mkdir()
    runs.write_config(path, CONFIG)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    trainer = Trainer(steps=6, batch_size=4, checkpoint_every=2, evaluate_every=2, keep_last=9)
    return trainer.fit(model, dataset, loss=DenoisingScoreMatching(), optimizer=optimizer, run=path), model


@pytest.fixture
def run(tmp_path):
    train(tmp_path / "run")
    return tmp_path / "run"


def rewrite(run, **changes):
    cfg = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**cfg, **changes}))


def error_of(action):
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_changed_configuration_is_read_with_a_warning_until_its_sum_is_deleted(tmp_path, capsys):
    runs.write_config(tmp_path, CONFIG)
    file = tmp_path / "config.yaml"
    whole = file.read_bytes()
    assert runs.read_config(tmp_path) == CONFIG
    assert not capsys.readouterr().err

    def noticed(content: bytes) -> bool:
        file.write_bytes(content)
        try:
            runs.read_config(tmp_path)
        except InputError:
            return True
        return "config.yaml: was changed since it was written; if you have edited it" in capsys.readouterr().err

    for bit in range(0, 8 * len(whole), 5):
        assert noticed(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :]), bit
    for cut in range(0, len(whole), 7):
        assert noticed(whole[:cut]), cut
    edited = whole.replace(b"width: 8", b"width: 9")
    assert noticed(edited)
    assert runs.read_config(tmp_path)["model"]["net"]["width"] == 9
    assert not noticed(edited.partition(b"\n")[2])


def test_load_gives_the_trained_model_back_to_the_bit(tmp_path):
    run = tmp_path / "run"
    result, model = train(run)
    x, t = torch.randn(5, 2), 0.3
    loaded = load(run, device="cpu")
    assert loaded.model.event_shape == (2,)
    assert torch.equal(loaded.model(x, t).x0, result.ema(x, t).x0)
    assert torch.equal(load(str(run), device="cpu", weights="raw").model(x, t).x0, model.eval()(x, t).x0)
    assert not loaded.model.training
    assert loaded.sde.beta_max == 15.0
    assert (loaded.step, loaded.event_shape, loaded.config) == (6, (2,), CONFIG)


def test_load_gives_the_checkpoint_that_is_asked_for(run):
    assert load(run, checkpoint="4").step == load(run, checkpoint=4).step == 4
    best = json.loads((run / "checkpoints" / "best.json").read_text())["step"]
    assert load(run, checkpoint="best").step == best


def test_samples_can_be_decoded_where_the_data_is_not(tmp_path, run):
    rewrite(run, data={"_target_": "scoresde.data.ArrayFile", "path": str(tmp_path / "gone.npy")})
    loaded = load(run)
    x = Sampler(Heun(), steps=3).sample(loaded.model, loaded.event_shape, 4).x
    expected = Moons(n=50).load().transform.finish(x)
    assert (loaded.transform.finish(x) == expected).all()
    assert "gone.npy does not exist" in error_of(loaded.dataset)
    assert ArrayFile.__name__ in loaded.config["data"]["_target_"]


def test_dataset_is_the_one_of_the_training(run):
    assert torch.equal(load(run).dataset().heldout, Moons(n=50).load().heldout)


@pytest.mark.parametrize("checkpoint", ["3", "first", 7, "-1"])
def test_an_unknown_checkpoint_is_refused_with_those_there_are(run, checkpoint):
    assert "2, 4, 6" in error_of(lambda: load(run, checkpoint=checkpoint))


def test_what_is_no_run_is_refused(tmp_path, run):
    assert "no folder" in error_of(lambda: load(tmp_path / "nothing"))
    assert f"there are {run}" in error_of(lambda: load(tmp_path))
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    assert "no checkpoint" in error_of(lambda: load(run))


@pytest.mark.parametrize("name", ["sde", "model"])
def test_a_config_without_a_section_is_refused(run, name):
    (run / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in CONFIG.items() if k != name}))
    assert f"{name} is missing" in error_of(lambda: load(run))


@pytest.mark.parametrize("text", ["a: [1", "- 1", "", ": : :", "!!python/object/apply:os.system [ls]"])
def test_a_damaged_config_is_refused(run, text):
    (run / "config.yaml").write_text(text)
    assert "config.yaml" in error_of(lambda: load(run))


def test_a_checkpoint_of_another_architecture_is_refused(run):
    rewrite(run, model={**CONFIG["model"], "net": {**CONFIG["model"]["net"], "width": 16}})
    assert "of another architecture" in error_of(lambda: load(run))


def test_a_run_from_elsewhere_opens_no_package_and_no_reference(run, tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text("from scoresde.nets import ResidualMLP\nclass Net(ResidualMLP): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    net = {**CONFIG["model"]["net"], "_target_": "theirs.Net"}
    rewrite(run, model={**CONFIG["model"], "net": net}, allow=["theirs"])
    assert "theirs.Net is not allowed" in error_of(lambda: load(run))
    assert "theirs" not in sys.modules
    assert type(load(run, allow=["theirs"]).model.net).__name__ == "Net"
    rewrite(run, sde={"_target_": "scoresde.VPSDE", "beta_max": "${oc.env:HOME}"})
    assert "is a reference" in error_of(lambda: load(run))


def test_one_program_writes_at_a_time(tmp_path):
    code = (
        "import sys; from pathlib import Path; from scoresde.runs import locked\nwith locked(Path(sys.argv[1])): pass"
    )
    start = [sys.executable, "-c", code, str(tmp_path)]
    with runs.locked(tmp_path):
        second = subprocess.run(start, capture_output=True, text=True)
        assert "is in use by another program" in second.stderr
    with runs.locked(tmp_path):  # free again
        pass


def test_folders_never_collide(tmp_path):
    made = {runs.new_folder(tmp_path, "same, name/x y") for _ in range(50)}
    assert len(made) == 50
    assert {p.parent for p in made} == {tmp_path}
    assert all(runs.setting(p) == f"run={p}" for p in made)


def test_secrets_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "0123456789abcdef")
    cfg = {
        "logger": {"api_key": "hush", "WANDB_API_KEY": "hush", "project": "public"},
        "note": ["mine is 0123456789abcdef"],
        "model": {"token": None, "tokens": 16, "token_size": 3, "secret": 5, "monkey": "see"},
    }
    runs.write_config(tmp_path, cfg)
    text = (tmp_path / "config.yaml").read_text()
    assert "hush" not in text
    assert "0123456789abcdef" not in text
    stored = runs.read_config(tmp_path)
    assert stored["logger"] == {"api_key": REMOVED, "WANDB_API_KEY": REMOVED, "project": "public"}
    assert stored["model"] == cfg["model"]


def test_a_config_comes_back_with_the_same_values(tmp_path):
    cfg = {"a": 1e-05, "b": 1.0, "c": [1, 2.5e10, None, True], "d": "yes", "e": "1e-5", "f": float("inf"), "g": "ä"}
    runs.write_config(tmp_path, cfg)
    assert runs.read_config(tmp_path) == cfg


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_a_device_that_is_not_there_is_refused(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert error_of(lambda: runs.pick_device(name)).startswith(f"device: {name} is not there")
    assert runs.pick_device("auto") == runs.pick_device("cpu") == "cpu"


def test_devices_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [runs.pick_device(n) for n in ("auto", "cpu", "cuda", "cuda:1")] == ["cuda", "cpu", "cuda", "cuda:1"]
    assert "there are 2 CUDA devices" in error_of(lambda: runs.pick_device("cuda:2"))
    assert "give auto, cpu, cuda or cuda:0" in error_of(lambda: runs.pick_device("gpu"))


def test_samples_far_outside_the_data_are_said(capsys):
    """Heun's rule in three steps is stable in nothing: ten standard deviations are no sample of any data."""
    model = exact_model(sde_named("vp"))
    (part,) = draw(Sampler(Heun(), steps=3), model, (2,), 20, seed=0)
    largest = part.x.abs().amax(1)
    said = f"warning: samples: {int((largest > 10).sum())} of 20 samples lie far outside the data: up to "
    assert said + f"{float(largest.max()):.3g} in model units" in capsys.readouterr().err
    list(draw(Sampler(steps=20), model, (2,), 20, seed=0))
    assert "warning" not in capsys.readouterr().err
    found = compare(model, mixture(), solvers=["heun", "auto"], budgets=[5, 40], tolerances=[], n=50, seeds=2)
    assert [note for note in found.notes if "far outside" in note and note.startswith("heun within 5 evaluations: ")]
    assert not [note for note in found.notes if "far outside" in note and not note.startswith("heun within 5")]


def test_log_densities_are_those_of_data_units(run):
    loaded, x = load(run), Moons(n=5).load().train.double()
    likelihood = Likelihood(steps=5)
    found, inner = loaded.log_prob(loaded.transform.decode(x), likelihood), likelihood(loaded.model, x)
    scales = torch.func.jacrev(loaded.transform.decode)(x[:1])[0, :, 0]
    torch.testing.assert_close(found.nats, inner.nats - torch.linalg.slogdet(scales)[1])
    torch.testing.assert_close(loaded.log_prob(loaded.transform.decode(x).numpy(), likelihood).nats, found.nats)
    with pytest.raises(InputError, match=r"^x: \(5, 3\) is not allowed; this run has items of shape \(2,\)"):
        loaded.log_prob(torch.zeros(5, 3))
