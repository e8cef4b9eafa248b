"""Classifiers of noisy data: a trained one is near the exact one, and `scoresde classifier` makes and resumes them."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from support import sde_named
from torch import Tensor, nn

import scoresde
from scoresde import CrossEntropy, GaussianMixture, InputError, NetworkClassifier, Sampler, ScoreModel, Trainer
from scoresde.cli.main import main
from scoresde.conditional import ConditionalMixture, ExactConditional
from scoresde.control import ClassifierGuided
from scoresde.data import Dataset
from scoresde.data.transform import Transform
from scoresde.loss import Batch
from scoresde.nets import Encoder
from scoresde.training import checkpoint as checkpoints
from scoresde.workflows.classifier import LEVELS, scores

OLD = Path(__file__).parent / "fixtures/d14582e"
MOONS, DIGITS = OLD / "run", OLD / "classes"
MIXTURE = GaussianMixture(
    [0.3, 0.2, 0.5], [[-1.0, 0.5], [1.0, 1.5], [0.5, -1.0]], [[[v, 0.0], [0.0, 0.1]] for v in (0.1, 0.3, 0.2)]
)
DATA = ConditionalMixture(MIXTURE, [0, 1, 0])
SHAPES = [(2,), (2, 9), (1, 7, 8), (1, 4, 5, 6)]


def drawn(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Items of the mixture with their classes."""
    x = MIXTURE.sample(n, seed)
    u = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.float(), (u > DATA.log_classes(x)[:, 0].exp()).long()


class Exact(NetworkClassifier):
    """The exact classifier of the mixture, which keeps what it was called with."""

    def __init__(self, sde: scoresde.SDE) -> None:
        super().__init__(nn.Identity(), sde)

    def log_classes(self, x: Tensor, alpha: Any, sigma: Any) -> Tensor:
        self.called = x, alpha, sigma
        return DATA.log_classes(x.double(), alpha, sigma).to(x.dtype)


class Spy(nn.Module):
    """A network that keeps what it sees."""

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        self.seen = x, c.clone()
        return x


@pytest.mark.parametrize("shape", SHAPES)
def test_an_encoder_begins_without_an_opinion_and_treats_samples_alone(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net, x, c = Encoder(shape, 3, 8, (1, 2), attention=(-1,), groups=4).eval(), torch.randn(5, *shape), torch.randn(5)
    assert (net(x, c) == 0).all()
    nn.init.normal_(net.head.weight)
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    out, order = net(x, c), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(net(x[order], c[order]), out[order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net(x[:1], c[:1]), out[:1], rtol=1e-5, atol=1e-5)
    assert out.std(0).min() > 1e-3  # it sees the sample
    assert (net(x, c + 1) - out).abs().amax() > 1e-3  # and the noise level


@pytest.mark.parametrize("sde", ["vp", "ve", "edm", "rectified"])
def test_the_network_sees_what_that_of_a_score_model_sees(sde: str) -> None:
    path, spies = sde_named(sde), (Spy(), Spy())
    x, t = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64) * path.T
    ScoreModel(spies[0], path, sigma_data=0.7)(x, t)
    classifier = NetworkClassifier(spies[1], path, 0.7)
    alpha, sigma = path.alpha(t), path.sigma(t)
    probabilities = classifier.log_classes(x, alpha, sigma).exp()
    for one, other in zip(*(spy.seen for spy in spies), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3, dtype=torch.float64))
    scaled = classifier.log_classes(3 * x, 3 * alpha, 3 * sigma).exp()
    torch.testing.assert_close(scaled, probabilities, rtol=1e-12, atol=0)


@pytest.mark.parametrize("sde", ["vp", "edm"])
def test_the_loss_asks_for_the_class_of_noised_items_at_levels_of_its_density(sde: str) -> None:
    torch.manual_seed(0)
    path, n = sde_named(sde), 4000
    x0, labels = drawn(n, 1)
    u, eps = (torch.arange(n, dtype=torch.float64) + 0.5) / n, torch.randn(n, 2)
    model, batch = Exact(path), Batch(x0, u, eps, {"class": labels})
    for times in ("lambda", "uniform"):
        loss, lam = CrossEntropy(times)(model, batch)
        x, alpha, sigma = model.called
        torch.testing.assert_close((x - alpha[:, None].float() * x0) / sigma[:, None].float(), eps, rtol=0, atol=0.02)
        level = lam if times == "lambda" else path.t_of_lam(lam)
        torch.testing.assert_close(level.diff(), level.diff().mean().expand(n - 1), rtol=1e-3, atol=0)
        ends = (path.t_train, path.t_start) if times == "lambda" else (path.t_train, path.T)
        low, high = sorted(path.at(t).lam for t in ends) if times == "lambda" else ends
        assert abs(level.min() - low) + abs(level.max() - high) < 2 * (high - low) / n
        p = DATA.log_classes(x.double(), alpha, sigma)
        apart = loss.double() + (p * p.exp()).sum(1)  # less the entropy
        assert abs(apart.mean()) < 4 * apart.std() / n**0.5
    each = [CrossEntropy()(model, Batch(x0, u, eps, {"class": torch.full((n,), c)})).loss for c in (0, 1)]
    torch.testing.assert_close(torch.stack(each).neg().exp().sum(0), torch.ones(n), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="cond: there is no class; give data with labels"):
        CrossEntropy()(model, Batch(x0, u, eps))
    alone = Dataset(x0, x0, Transform("points", (2,)))
    with pytest.raises(InputError, match=r"data: 'class' .* this data has no conditions"):
        Trainer(steps=1).fit(NetworkClassifier(Encoder((2,), 2, 8), path), alone, loss=CrossEntropy())


def entropies(n: int = 20_000) -> dict[float, tuple[float, float]]:
    """Accuracy and conditional entropy of the exact classifier by sigma / alpha, on items of its own."""
    found = {}
    for ratio in LEVELS:
        x = MIXTURE.sample(n, 5) + ratio * torch.randn(n, 2, dtype=torch.float64)
        log_p = DATA.log_classes(x, 1.0, ratio)
        found[ratio] = float(log_p.exp().amax(1).mean()), -float((log_p * log_p.exp()).sum(1).mean())
    return found


def test_the_scores_of_the_exact_classifier_are_its_entropies() -> None:
    own = scores(Exact(sde_named("vp")), *drawn(2000, 3))
    for ratio, (right, entropy) in entropies().items():
        assert abs(own[ratio][0] - right) < 4 * (right * (1 - right) / 2000) ** 0.5
        assert abs(own[ratio][1] - entropy) < 0.05
    spy = Exact(sde_named("vp"))
    spy.log_classes = lambda x, alpha, sigma: seen.append((x, alpha, sigma)) or torch.zeros(len(x), 2)  # type: ignore
    seen: list[Any] = []
    scores(spy, torch.full((500, 64), 20.0), torch.zeros(500, dtype=torch.int64))
    for ratio, (x, alpha, sigma) in zip(LEVELS, seen, strict=True):
        assert abs(sigma / alpha / ratio - 1) < 1e-6
        assert abs((x / alpha).mean() / 20 - 1) < 0.01 * max(ratio, 0.1)
        assert abs(x.std() / sigma - 1) < 0.012  # three standard errors
    (alone,) = scores(Exact(sde_named("one_level")), *drawn(10, 0))  # at the level that there is
    assert abs(math.log(alone / 0.1)) < 0.01


@pytest.fixture(scope="module")
def classifier() -> NetworkClassifier:
    """Trained on items of the mixture for a few seconds."""
    (x, labels), (held, others) = drawn(20_000, 1), drawn(2000, 2)
    dataset = Dataset(x, held, Transform("points", (2,)), {"class": labels}, {"class": others})
    torch.manual_seed(0)
    model = NetworkClassifier(Encoder((2,), 2, 32, (1,), blocks=2, dropout=0.0), sde_named("vp"), dataset.sigma_data)
    trainer, adam = (
        Trainer(steps=300, batch_size=256, ema=0.98, warmup=20, evaluate_every=0),
        torch.optim.Adam(model.parameters(), 1e-2),
    )
    return trainer.fit(model, dataset, loss=CrossEntropy(), optimizer=adam).ema


def test_a_trained_classifier_is_near_the_exact_one(classifier: NetworkClassifier) -> None:
    held, labels = drawn(2000, 3)
    exact, found = scores(Exact(classifier.sde), held, labels), scores(classifier, held, labels)
    for ratio in LEVELS:
        assert found[ratio][1] - exact[ratio][1] < 0.02
        assert exact[ratio][0] - found[ratio][0] < 0.02
    divergence = []
    for ratio in LEVELS:
        x = held + ratio * torch.randn(held.shape)
        p = DATA.log_classes(x.double(), 1.0, ratio)
        divergence.append(float((p.exp() * (p - classifier.log_classes(x, 1.0, ratio))).sum(1).mean()))
    assert 0 <= min(divergence) <= max(divergence) < 0.02


def test_samples_that_it_leads_land_in_their_class_on_another_path_too(classifier: NetworkClassifier) -> None:
    labels = torch.tensor([0, 1])
    for sde in ("vp", "edm"):
        model, sampler = ExactConditional(DATA, sde_named(sde)), Sampler(steps=20)
        prior = sampler.sample(model, n=400).x
        own = labels.repeat(200)
        share = {}
        for scale in (0.0, 1.0, 3.0):
            x = sampler.sample(ClassifierGuided(model, classifier, labels, scale), n=400).x
            share[scale] = float((DATA.log_classes(x.double()).argmax(1) == own).float().mean())
            if scale == 0:
                assert torch.equal(x, prior)
            if scale == 1:  # the conditional distribution
                for c in (0, 1):
                    apart = x[own == c].double().mean(0) - DATA.of_class(c).sample(20_000).mean(0)
                    assert apart.norm() < 0.2
        assert share[0.0] < 0.65
        assert share[1.0] > 0.93
        assert share[3.0] > 0.97


# ---- the command ----

SMALL = ["logger=none", "device=cpu", "trainer.batch_size=32", "trainer.log_every=2", "trainer.warmup=2"]
SMALL += ["trainer.checkpoint_every=2", "trainer.evaluate_every=2", "trainer.keep_last=9", "model.net.channels=8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of the moons, trained for six steps."""
    out = tmp_path_factory.mktemp("classifier") / "out"
    assert main(["classifier", f"run={MOONS}", f"out={out}", "trainer.steps=6", *SMALL]) == 0
    return out


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_classifier_has_the_folder_of_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "heldout_loss" in row] == [2, 4, 6]
    summary = json.loads((folder / "summary.json").read_text())
    for name in ("accuracy", "cross_entropy"):
        assert {f"{name}/noise_{ratio:g}" for ratio in LEVELS} <= rows[-1].keys() & summary.keys()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["classifies"], config["model"]["net"]["classes"]) == (str(MOONS), 2)
    assert config["data"] == yaml.safe_load((MOONS / "config.yaml").read_text())["data"]
    assert (
        checkpoints.read(checkpoints.newest(folder)).state["data"]["transform"]
        == scoresde.load(MOONS).transform.to_dict()
    )
    assert main(["list", f"folder={folder.parent}", "format=json"]) == main(["status", f"folder={folder}"]) == 0
    out = capsys.readouterr().out
    assert '"model": "classifier"' in out
    assert "finished" in out
    assert repr(scoresde.load_classifier(folder)).startswith("<classifier ")


def test_a_killed_training_of_a_classifier_ends_in_the_same_bits(folder: Path, here: Path) -> None:
    shutil.copytree(folder, here / "out")
    (here / "out/summary.json").unlink()
    for step in (4, 6):
        shutil.rmtree(checkpoints.at_step(here / "out", step))
    assert main(["classifier", f"run={MOONS}", "out=out", "logger=none"]) == 0
    for name in ("model", "ema", "optimizer"):
        one, other = (load_file(checkpoints.at_step(run, 6) / f"{name}.safetensors") for run in (folder, here / "out"))
        assert all(torch.equal(one[key], other[key]) for key in one)
    said = [(run / "metrics.jsonl").read_text().splitlines() for run in (folder, here / "out")]
    values = [
        [{k: v for k, v in json.loads(line).items() if k.startswith(("heldout", "accuracy"))} for line in one]
        for one in said
    ]
    assert values[0] == values[1]


def test_a_finished_one_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classifier", f"run={MOONS}", f"out={folder}"]) == 0
    assert "is complete, with all of its 6 steps" in capsys.readouterr().out


def test_samples_of_a_run_are_led_by_a_classifier(folder: Path, here: Path) -> None:
    def sample(*settings: str) -> tuple[np.ndarray, dict[str, Any]]:
        shutil.rmtree("out", ignore_errors=True)
        common = ["n=6", "sampler.steps=4", "solver=ddim", "device=cpu", "out=out"]
        assert main(["sample", f"run={MOONS}", *common, *settings]) == 0
        return np.load("out/samples.npz")["samples"], json.loads(Path("out/summary.json").read_text())

    led = [f"classifier={folder}", "label=[0,1]"]
    prior, _ = sample()
    x, summary = sample(*led, "guidance=0")
    np.testing.assert_array_equal(x, prior)
    assert (summary["classifier"], summary["classifier_checkpoint_step"], summary["nfe"]) == (str(folder), 6, 4)
    strong = [*led, "guidance=2", "guidance_interval=[0.2,3]", "classifier_weights=raw", "guidance_method=apg"]
    x, _ = sample(*strong)
    assert abs(x - prior).max() > 1e-4
    np.testing.assert_allclose(sample(*strong, "batch_size=4")[0], x, rtol=0, atol=1e-5)
    exact, _ = sample(*led, "guidance_method=exact", "guidance_method.particles=2", "classifier_checkpoint=2")
    assert np.isfinite(exact).all()


def test_what_cannot_be_a_classifier_is_one_line(folder: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: str) -> str:
        assert main([*words]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert not Path("new").exists()
        assert not Path("runs").exists()
        return said

    copied = Path(shutil.copytree(folder, here / "copy"))
    config = yaml.safe_load((folder / "config.yaml").read_text())

    def changed(**sections: Any) -> Path:
        (copied / "config.yaml").write_text(yaml.safe_dump(config | sections))
        return copied

    sample = ["sample", f"run={MOONS}", "device=cpu", "n=2", "out=new"]
    led = [*sample, "label=0", f"classifier={folder}"]
    train = ["classifier", "logger=none", "trainer.steps=2"]
    assert "knows the classes 0 to 1" in refused(*sample, f"classifier={folder}", "label=[0,2]")
    assert "label: None is not allowed" in refused(*sample, f"classifier={folder}")
    assert "classifier: guide= leads away" in refused(*led, f"guide={MOONS}", "guidance=2")
    assert "classifier_weights: 'old' is not one of" in refused(*led, "classifier_weights=old")
    assert "classifier_checkpoint: 7 is not in" in refused(*led, "classifier_checkpoint=7")
    assert "classifier_weights: raw is that of a folder; give classifier=FOLDER" in refused(
        *sample, "classifier_weights=raw"
    )
    assert f"classifier: {MOONS} holds no classifier" in refused(*sample, "label=0", f"classifier={MOONS}")
    assert "is for items of shape (2,)" in refused(
        "sample", f"run={DIGITS}", "label=0", f"classifier={folder}", "out=new"
    )
    assert "guidance_interval: " in refused(*led, "guidance=2", "guidance_interval=[3,1]")
    few = changed(sde={**config["sde"], "t_train": 0.1, "t_min": 0.1})
    assert "classifier: copy has seen sigma / alpha from 0." in refused(*sample, "label=0", f"classifier={few.name}")
    wide = changed(model={**config["model"], "net": {**config["model"]["net"], "channels": 16}})
    assert "classifier_checkpoint: copy, step 6 is of another architecture" in refused(
        *sample, "label=0", f"classifier={wide.name}"
    )
    changed()
    (checkpoints.at_step(copied, 6) / "ema.safetensors").write_bytes(b"x")
    assert "is damaged" in refused(*sample, "label=0", "classifier=copy", "classifier_checkpoint=6")
    for command in ("sample", "train", "evaluate"):
        assert f"run: {folder} holds a classifier" in refused(command, f"run={folder}")
    assert f"out: {MOONS} is the folder of a run" in refused(*train, f"run={MOONS}", f"out={MOONS}")
    assert "was trained for one with another" in refused(*train, f"run={DIGITS}", f"out={folder}")
    assert "model.net.channels: this run was trained with 8" in refused(
        *train, f"run={MOONS}", f"out={folder}", "model.net.channels=9"
    )
    assert "trainer.augment: 0.1 is for score models" in refused(*train, f"run={MOONS}", "trainer.augment=0.1")
    assert "model.net.classes: 2 is fewer than the 10" in refused(*train, f"run={DIGITS}", "model.net.classes=2")
    assert "model.net.heads: 3" in refused(*train, f"run={DIGITS}", "model.net.heads=3", "model.net.attention=[0]")
    other = Path(shutil.copytree(MOONS, here / "rings"))
    own = yaml.safe_load((MOONS / "config.yaml").read_text())
    own["data"] = {"_target_": "scoresde.data.SwissRoll"}
    (other / "config.yaml").write_text(yaml.safe_dump(own))
    assert "run: rings was trained on data without labels" in refused(*train, "run=rings")
