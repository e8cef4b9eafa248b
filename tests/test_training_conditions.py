"""The conditions of a training: those of the right items, several at once, augmentation, and exact resuming."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training_job import assert_same, fit, last, resume

from scoresde import VPSDE, Conditioned, InputError, Sampler, ScoreModel, load
from scoresde.cli.main import main
from scoresde.comparison import Trained
from scoresde.data import Dataset, Moons, Transform
from scoresde.loss import Batch, DenoisingScoreMatching, LossTerms
from scoresde.metrics import classify
from scoresde.nets import ResidualMLP
from scoresde.training.batches import Batches
from scoresde.training.conditions import conditions


def conditional(event: tuple[int, ...], width: int = 32, **settings: Any) -> tuple[ScoreModel, torch.optim.Optimizer]:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        model = ScoreModel(ResidualMLP(event, width=width, blocks=1, dropout=0.1, **settings), VPSDE(), sigma_data=1.0)
        for weight in model.parameters():  # most begin at zero, where the condition does nothing in the first steps
            torch.nn.init.normal_(weight, std=0.1)
    return model, torch.optim.Adam(model.parameters(), lr=2e-3)


def images(n: int = 48, flip: bool = False) -> Dataset:
    """Noise, with classes, and with every pixel below the middle beside it as an image and its mean as a vector."""
    pixels = torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    transform = Transform.of_levels((1, 8, 8))
    train, heldout = transform.encode(pixels[8:]), transform.encode(pixels[:8])
    known = [
        {"class": torch.arange(len(x)) % 3, "dark": (x < 0).float(), "mean": x.flatten(1).mean(1, keepdim=True)}
        for x in (train, heldout)
    ]
    return Dataset(train, heldout, transform, *known, flip=flip)


CLASSES: dict[str, Any] = {"condition": "class", "condition_size": 2, "condition_dropout": 0.2}
AUGMENTED: dict[str, Any] = {"condition": {"augment": "vector"}, "condition_size": 9}
EDM: dict[str, Any] = {
    "condition": {"class": "class", "augment": "vector"},
    "condition_size": {"class": 3, "augment": 9},
    "condition_dropout": 0.2,
}
SEVERAL: dict[str, Any] = {
    "condition": {"class": "class", "augment": "vector", "dark": "image", "mean": "vector"},
    "condition_size": {"class": 3, "augment": 9, "dark": 1, "mean": 1},
}
KINDS = {
    "class": ((2,), CLASSES, lambda: Moons(n=300).load(), {}),
    "augmentation": ((1, 8, 8), AUGMENTED, images, {"augment": 0.3}),
    "classes with augmentation": ((1, 8, 8), EDM, images, {"augment": 0.3}),
    "several": ((1, 8, 8), SEVERAL, lambda: images(flip=True), {"augment": 0.3}),
}


class Watched(DenoisingScoreMatching):
    """Keeps the conditions of which data, in training and on held-out items."""

    def __init__(self) -> None:
        super().__init__()
        self.training: list[tuple[Tensor, Any]] = []
        self.heldout: list[tuple[Tensor, Any]] = []

    def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
        (self.training if model.training else self.heldout).append((batch.x0, batch.cond))
        return super().__call__(model, batch)


def watched(kind: str, run: Path, **changes: Any) -> tuple[Dataset, Watched]:
    event, settings, data, augment = KINDS[kind]
    model, optimizer = conditional(event, **settings)
    loss, dataset = Watched(), data()
    fit(run, model=model, optimizer=optimizer, dataset=dataset, loss=loss, **augment, steps=20, **changes)
    return dataset, loss


@pytest.mark.parametrize("micro_batch", [None, 8])
def test_every_item_comes_with_its_class(micro_batch: int | None, tmp_path: Path) -> None:
    dataset, loss = watched("class", tmp_path, micro_batch=micro_batch)
    assert dataset.labels is not None
    assert dataset.heldout_labels is not None
    for pairs, items, labels in (
        (loss.training, dataset.train, dataset.labels),
        (loss.heldout, dataset.heldout, dataset.heldout_labels),
    ):
        x0, cond = torch.cat([x for x, _ in pairs]), torch.cat([cond["class"] for _, cond in pairs])
        assert len(x0) >= 640
        found = (x0[:, None] == items).all(2).long().argmax(1)
        assert torch.equal(items[found], x0)
        assert torch.equal(labels[found], cond)
    assert {len(x0) for x0, _ in loss.training} == {micro_batch or 32}


def test_classes_follow_the_order_of_the_items() -> None:
    data = torch.arange(10.0)[:, None]
    batches = Batches(data, 5, torch.device("cpu"), conditions={"class": torch.arange(10) * 7})
    for position, size in ((0, 4), (7, 6), (3, 25)):  # across epochs too
        labels = batches.conditions(position, size)["class"]
        assert torch.equal(labels, batches.at(position, size)[:, 0].long() * 7)


@pytest.mark.parametrize("kind", ["augmentation", "classes with augmentation"])
def test_augmentation_is_a_condition_in_training_and_is_absent_elsewhere(kind: str, tmp_path: Path) -> None:
    dataset, loss = watched(kind, tmp_path)
    x0 = torch.cat([x for x, _ in loss.training])
    cond = torch.cat([cond["augment"] for _, cond in loss.training])
    known = (x0[:, None] == dataset.train).flatten(2).all(2).any(1)
    untouched = (cond == 0).all(1)
    assert torch.equal(known, untouched)
    # nothing is done with probability (1 - p)^4 (1 - p/2)^2, a mirror being none in half of its cases
    expected = (1 - 0.3) ** 4 * (1 - 0.15) ** 2
    assert untouched.float().mean().item() == pytest.approx(expected, abs=4 * (expected / len(cond)) ** 0.5)
    assert all(not cond or "augment" not in cond for _, cond in loss.heldout)
    x0 = torch.cat([x for x, _ in loss.heldout])
    assert (x0[:, None] == dataset.heldout).flatten(2).all(2).any(1).all()


@pytest.mark.parametrize("micro_batch", [None, 8])
def test_several_conditions_are_of_the_same_item_and_images_are_changed_with_it(
    micro_batch: int | None, tmp_path: Path
) -> None:
    dataset, loss = watched("several", tmp_path, micro_batch=micro_batch)
    for pairs, own in ((loss.training, dataset.conditions), (loss.heldout, dataset.heldout_conditions)):
        x0 = torch.cat([x for x, _ in pairs])
        cond = {name: torch.cat([cond[name] for _, cond in pairs]) for name in own}
        changes = torch.cat([cond.get("augment", torch.zeros(len(x), 9)) for x, cond in pairs])
        still = (changes == 0).all(1)
        assert still.any()
        assert torch.equal((x0 < 0).float()[still], cond["dark"][still])  # mirrored with it, too
        torch.testing.assert_close(x0.flatten(1).mean(1, keepdim=True)[still], cond["mean"][still])
        item = (cond["mean"] == own["mean"].T).long().argmax(1)
        assert torch.equal(own["class"][item], cond["class"])
        # what was turned and stretched is still dark where it was dark, but for the values in between
        moved = (2 * cond["dark"] - 1)[~still] * x0[~still]
        assert len(moved) == 0 or (moved < 0).float().mean() > 0.85


@pytest.mark.parametrize("micro_batch", [None, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_is_the_same_to_the_bit(kind: str, micro_batch: int | None, tmp_path: Path) -> None:
    event, settings, data, augment = KINDS[kind]

    def arguments() -> dict[str, Any]:
        model, optimizer = conditional(event, **settings)
        own = {"model": model, "optimizer": optimizer, "dataset": data(), "micro_batch": micro_batch}
        return {**own, **augment, "schedule": "constant"}

    fit(tmp_path / "whole", steps=40, **arguments())
    fit(tmp_path / "parts", steps=17, **arguments())  # amid what is drawn ahead
    resume(tmp_path / "parts", steps=40, **arguments())
    assert_same(last(tmp_path / "whole", 40), last(tmp_path / "parts", 40))


def test_each_class_is_drawn_where_it_lies(tmp_path: Path) -> None:
    """Of the two moons, which interlock: a sample of a class has its nearest neighbours in that class."""
    dataset = Moons(n=2000, noise=0.05).load()
    assert dataset.labels is not None
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        net = ResidualMLP((2,), width=64, blocks=2, condition="class", condition_size=2)
    model = ScoreModel(net, VPSDE(), sigma_data=1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    result = fit(
        tmp_path, model=model, optimizer=optimizer, dataset=dataset, steps=700, batch_size=128, log_every=700,
        evaluate_every=0, checkpoint_every=0, ema=0.99,
    )  # fmt: skip
    labels = torch.tensor([0, 1, 1])
    for scale in (1.0, 2.0):
        x = Sampler(steps=20).sample(Conditioned(result.ema, labels, scale), (2,), 300).x
        found = classify(x, dataset.train, dataset.labels, 5)
        assert (found == labels.repeat(100)).float().mean() > 0.95
    # told nothing it draws both
    free = classify(Sampler(steps=20).sample(result.ema, (2,), 300).x, dataset.train, dataset.labels, 5)
    assert 0.3 < free.float().mean() < 0.7


def test_an_image_condition_is_learned_as_an_upsampling(tmp_path: Path) -> None:
    """Of x = low + noise with low of one value for each quarter: samples are low and noise again, to a few per cent."""
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(3000, 1, 2, 2, generator=generator).repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = low + 0.3 * torch.randn(low.shape, generator=generator)
    transform = Transform("table", (1, 4, 4))
    dataset = Dataset(x[500:], x[:500], transform, {"low": low[500:]}, {"low": low[:500]})
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        net = ResidualMLP((1, 4, 4), width=128, blocks=2, condition={"low": "image"}, condition_size=1)
    model = ScoreModel(net, VPSDE(), sigma_data=1.0)
    result = fit(
        tmp_path, model=model, optimizer=torch.optim.Adam(model.parameters(), lr=5e-3), dataset=dataset, steps=700,
        batch_size=128, log_every=700, evaluate_every=0, checkpoint_every=0, ema=0.99,
    )  # fmt: skip
    samples = Sampler(steps=20).sample(Conditioned(result.ema, low[:500]), (1, 4, 4), 500).x
    slope = (samples * low[:500]).mean() / low[:500].square().mean()
    assert slope.item() == pytest.approx(1, abs=0.05)
    assert (samples - low[:500]).std().item() == pytest.approx(0.3, rel=0.15)


@pytest.mark.parametrize(
    ("condition", "size", "says"),
    [
        ({"class": "class"}, 2, "condition_size: 2 is not allowed; this data has 3 classes; give 3 or more"),
        ({"text": "tokens"}, 4, "condition: 'text' is not allowed; this data has class, dark, mean; give null"),
        ({"mean": "vector"}, 4, "condition_size: 4 is not allowed; the mean of this data has size 1"),
        ({"dark": "image"}, 3, "condition_size: 3 is not allowed; the dark of this data has size 1"),
    ],
)
def test_the_trainer_refuses_conditions_that_the_data_does_not_have(condition: Any, size: int, says: str) -> None:
    model, _ = conditional((1, 8, 8), condition=condition, condition_size=size)
    with pytest.raises(InputError, match=says):
        conditions(model, images(), 0.0)


def test_augmentation_is_of_images() -> None:
    model, _ = conditional((2,), **AUGMENTED)
    with pytest.raises(InputError, match=r"augment: 0.3 .* items of shape \(2,\) are no images"):
        conditions(model, Moons(n=60).load(), 0.3)


def test_the_conditions_of_samples_are_the_classes_or_what_held_out_items_have() -> None:
    data = images()
    for settings, names in ((EDM, {"class"}), (SEVERAL, {"class", "dark", "mean"}), (AUGMENTED, set())):
        model, _ = conditional((1, 8, 8), **settings)
        samples = conditions(model, data, 0.1).samples
        assert samples.keys() == names
        assert {len(value) for value in samples.values()} <= ({3} if settings is EDM else {8})


def test_samples_take_several_conditions_in_turn() -> None:
    """Sample k has those of held-out item k mod M; guidance hides the class and the vector, and keeps the image."""
    model, _ = conditional((1, 8, 8), **SEVERAL)
    cond = conditions(model, images(), 0.1).samples
    sampler = Sampler(steps=3)
    x = {scale: sampler.sample(Conditioned(model.eval(), cond, scale), (1, 8, 8), 10).x for scale in (0.0, 1.0, 2.0)}
    twice = {name: torch.cat([values, values]) for name, values in cond.items()}
    again = sampler.sample(Conditioned(model, twice), (1, 8, 8), 10).x
    torch.testing.assert_close(again, x[1.0])
    alone = sampler.sample(Conditioned(model, {"dark": cond["dark"]}), (1, 8, 8), 10).x
    torch.testing.assert_close(alone, x[0.0])
    assert min((x[a] - x[b]).abs().max() for a, b in ((0.0, 1.0), (1.0, 2.0))) > 1e-4


def test_conditions_are_one_for_each_item() -> None:
    data = images()
    with pytest.raises(InputError, match=r"^conditions\.class: '7 values' .* there are 40 items"):
        Dataset(data.items, data.heldout, data.transform, {"class": torch.zeros(7)})


def test_the_items_of_a_class_keep_their_conditions() -> None:
    data = images()
    some = data.of_classes([1])
    assert set(some.labels.tolist()) == set(some.heldout_labels.tolist()) == {1}
    assert torch.equal(some.conditions["dark"], (some.items < 0).float())
    assert torch.equal(some.heldout_conditions["dark"], (some.heldout < 0).float())


CLASS, AUGMENT = "model.net.condition=class", "model.net.condition={augment:vector}"
WITH = [AUGMENT, "trainer.augment=0.1"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([CLASS, "data=array", "data.path=t.npy"], "model.net.condition: 'class' is not allowed; this data has no con"),
        ([CLASS, "model.net.condition_size=7", "data=array", "data.path=t.npy"], "this data has no conditions; give"),
        ([CLASS, "model.net.condition_size=1"], "model.net.condition_size: 1 is not allowed; this data has 2 classes"),
        (WITH, "trainer.augment: 0.1 is not allowed; items of shape (2,) are no images"),
        ([*WITH, "data=digits", "model.net.condition_size=8"], "it has vector 8, dropout 0; give"),
        ([*WITH, "data=digits", "model.net.condition_dropout={augment:0.1}"], "it has vector 9, dropout 0.1; give"),
        (["data=digits", "trainer.augment=0.1"], "it has no such condition; give model.net.condition={augment:vector}"),
        (["data=digits", CLASS, "trainer.augment=0.1"], "trainer.augment: 0.1 needs a network with the condition aug"),
        (["model.net.condition=vector"], "model.net.condition: 'vector' is not allowed; this data has class; give"),
        (["trainer.augment=2"], "augment: 2.0 is not allowed; give a probability"),
        (["model.net.condition_size=measured"], "model.net.condition_size: 'measured' is not"),
    ],
)
def test_the_command_line_refuses_in_one_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", np.random.default_rng(0).normal(size=(60, 2)))
    small = ["debug=tiny", "data=moons", "model=mlp", "logger=none", "metrics={}", "run=run"]
    given = {a.split("=")[0]: a for a in [*small, *arguments]}
    assert main(["train", *given.values()]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err
    assert not Path("run").exists()


def test_labels_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["debug=tiny", "experiment=moons", "data.n=60", "model.net.width=8", "logger=none", "n=6", "run=run"]
    small += ["~samplers.predictor_corrector", "~samplers.dopri5", "trainer.steps=60", "optimizer.lr=0.02"]
    assert main(["train", *small, CLASS, "trainer.monitor=sliced_wasserstein"]) == 0
    assert "condition_size: 2" in Path("run/config.yaml").read_text()
    drawn = {}
    for name, arguments in {
        "both": ["label=[0,1]", "batch_size=2"],
        "whole": ["label=[0,1]"],
        "zero": ["label=0"],
        "none": [],
        "guided": ["label=0", "guidance=2"],
    }.items():
        assert main(["sample", "run=run", "n=5", "sampler.steps=3", "solver=ddim", f"out={name}", *arguments]) == 0
        summary = json.loads(Path(name, "summary.json").read_text())
        assert summary["nfe"] == (6 if name == "guided" else 3)
        drawn[name] = np.load(Path(name, "samples.npz"))["samples"]
    np.testing.assert_allclose(drawn["both"], drawn["whole"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(drawn["both"][::2], drawn["zero"][::2], rtol=1e-5, atol=1e-6)
    assert abs(drawn["both"][1::2] - drawn["zero"][1::2]).min() > 1e-4
    for name in ("none", "guided"):
        assert abs(drawn[name] - drawn["zero"]).min() > 1e-6
    compared = ["compare", "run=run", "solvers=[ddim]", "budgets=[6]", "n=20", "seeds=2", "logger=none", "out=compared"]
    assert main([*compared, "label=1", "guidance=2", "metrics=[distances]"]) == 0
    (row,) = json.loads(Path("compared/results.json").read_text())["rows"]
    assert (row["nfe"], row["steps"]) == (6, 3)
    assert "label 1, guidance 2" in Path("compared/report.html").read_text()
    assert main(["tune", "run=run", "label=[0,1]", "guidance=2", "tune.n=16", "tune.iterations=1", "tune.fine=10"]) == 0
    assert "10 steps take up to" in capsys.readouterr().err
    report = json.loads(Path("run/tuned/steps-10.json").read_text())["report"]
    assert report["gain"][0] == pytest.approx(report["before"]["mean"] / report["after"]["mean"])
    assert (report["label"], report["guidance"]) == ([0, 1], 2)
    tuned = ["compare", "run=run", "solvers=[tuned]", "budgets=[20]", "n=20", "seeds=2", "logger=none", "out=tuned"]
    assert main([*tuned, "label=[0,1]", "guidance=2"]) == 0
    content = json.loads(Path("tuned/results.json").read_text())
    assert (content["rows"][0]["nfe"], content["rows"][0]["steps"]) == (20, 10)
    assert any(note.startswith("Tuning 10 steps took") for note in content["notes"])
    capsys.readouterr()
    for arguments, says in (
        (["label=2"], "label: 2 is not allowed; give classes from 0 to 1"),
        (["label=[]"], "label: [] is not allowed"),
        (["guidance=2"], "guidance: 2.0 is not allowed; it needs a label"),
        (["label=1", "guidance=-1"], "guidance: -1.0 is not allowed"),
    ):
        assert main(["sample", "run=run", "out=not", *arguments]) == 2
        err = capsys.readouterr().err
        assert says in err
        assert err.count("\n") == 1
        assert not Path("not").exists()
        assert main([*compared[:-1], "out=not", *arguments]) == 2
        assert says in capsys.readouterr().err
        assert not Path("not").exists()
    assert main(["compare", "problem=mixture_2d", "label=1", "out=not"]) == 2
    assert "label: 1 is not allowed; it belongs to a run with classes" in capsys.readouterr().err


def test_real_items_of_a_comparison_are_of_the_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["debug=tiny", "experiment=moons", "data.n=200", "model.net.width=8", "logger=none", "n=4", "run=run"]
    small += ["~samplers.predictor_corrector", "~samplers.dopri5", CLASS, "metrics={}"]
    assert main(["train", *small]) == 0
    run = load("run")
    whole = run.dataset()
    (some,) = Trained(run, 1).real(30, [0])
    assert whole.heldout_labels is not None
    assert torch.equal(some.heldout, whole.heldout[whole.heldout_labels == 1])
    assert some.labels is not None
    assert set(some.labels.tolist()) == {1}
    assert Trained(run, [0, 1]).largest_n == len(whole.train)
    with pytest.raises(InputError, match="label: 7 is a class without items"):
        whole.of_classes([0, 7])


SMALL = ["debug=tiny", "data=digits", "model=mlp", "model.net.width=8", "logger=none", "n=4", "metrics={}"]
SMALL += ["~samplers.predictor_corrector", "~samplers.dopri5", "optimizer.lr=0.02"]


def test_a_run_is_sampled_as_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With augmentation: of unchanged images. Trained with classes alone: only with one."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL, *WITH, "run=augmented"]) == 0
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    run = load("augmented")
    torch.testing.assert_close(run.plain(x, 0.3).eps, run.model(x, 0.3, torch.zeros(4, 9)).eps)
    stored = Path("augmented/config.yaml")
    written = stored.read_text()
    assert "condition:\n      augment: vector\n    condition_size:\n      augment: 9" in written
    # as it was written before conditions had names, and before the line with the SHA-256
    old = written.partition("\n")[2].replace("condition:\n      augment: vector", "condition: vector")
    stored.write_text(old.replace("condition_size:\n      augment: 9", "condition_size: 9"))
    assert torch.equal(load("augmented").plain(x, 0.3).eps, run.plain(x, 0.3).eps)
    assert main(["train", "run=augmented", "trainer.steps=60"]) == 0
    assert main(["train", *SMALL, CLASS, "model.net.condition_dropout=0", "run=classes"]) == 0
    sampled = ["sample", "run=classes", "n=2", "sampler.steps=2", "out=out"]
    capsys.readouterr()
    for arguments, says in (([], "always needs a class"), (["label=1", "guidance=2"], "guidance: 2.0 is not allowed")):
        assert main([*sampled, *arguments]) == 2
        assert says in capsys.readouterr().err
    assert main([*sampled, "label=1"]) == 0


def test_the_recipe_of_edm_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes with augmentation: sizes come from the data, a label is enough to sample, and it resumes exactly."""
    monkeypatch.chdir(tmp_path)
    recipe = ["model.net.condition={class:class,augment:vector}", "trainer.augment=0.12", "sde=edm"]
    recipe += ["trainer.schedule=constant", "trainer.log_every=1"]
    assert main(["train", *SMALL, *recipe, "run=whole", "trainer.steps=8"]) == 0
    assert main(["train", *SMALL, *recipe, "run=parts", "trainer.steps=5"]) == 0
    sizes = "model.net.condition_size"  # 0 in conf/: that of the data
    assert main(["train", *SMALL, *recipe, "run=parts", "trainer.steps=6"]) == 0
    assert main(["train", "run=parts", f"{sizes}={{class:0}}", "trainer.steps=6"]) == 0
    assert main(["train", "run=parts", f"{sizes}={{class:9}}", "trainer.steps=7"]) == 2
    assert main(["train", "run=parts", "trainer.steps=8"]) == 0
    assert_same(last(Path("whole"), 8), last(Path("parts"), 8))
    run = load("whole")
    assert run.config["model"]["net"]["condition_size"] == {"class": 10, "augment": 9}
    sampled = ["sample", "run=whole", "n=2", "sampler.steps=2"]
    for name, label in (("three", 3), ("four", 4)):
        assert main([*sampled, f"label={label}", "guidance=2", f"out={name}"]) == 0
    three, four = (np.load(Path(name, "samples.npz"))["samples"] for name in ("three", "four"))
    assert np.abs(three - four).max() > 0
