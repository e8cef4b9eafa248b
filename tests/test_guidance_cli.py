"""Guidance of runs: `scoresde sample` with an interval, a guide or a method, and `scoresde.runs.guiding.guided`."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import options

from scoresde import load
from scoresde.cli.main import main
from scoresde.control import Guided
from scoresde.data import Transform
from scoresde.named import named
from scoresde.runs.guiding import guided
from scoresde.training import checkpoint as checkpoints

OLD = Path(__file__).parent / "fixtures/d14582e"
CLASSES, OTHER = OLD / "classes", OLD / "run"
DRAW = ["n=3", "batch_size=2", "sampler.steps=4", "solver=ddim", "device=cpu"]
SEEN = ["observation=inpaint", "observation.box=[0,0,4,8]", "observation.held_out=0"]


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Samples and summary of a run with classes; the line on stderr where `code` is 2."""
    monkeypatch.chdir(tmp_path)

    def call(*settings: str, code: int = 0, run: Path = CLASSES) -> Any:
        assert main(["sample", f"run={run}", *DRAW, *settings, "out=out"]) == code
        said = capsys.readouterr().err
        if code:
            assert said.count("\n") == 1
            assert not Path("out").exists()
            return said
        found = Path("out").rename(f"{len(list(tmp_path.iterdir()))}")
        return np.load(found / "samples.npz")["samples"], json.loads((found / "summary.json").read_text())

    return call


def test_ways_to_say_the_same_give_the_same_samples(sample: Any) -> None:
    plain, summary = sample("label=[3,7]", "guidance=2")
    assert "guide" not in summary
    assert summary["nfe"] == 8
    for ways in (["guidance_interval=[0,1000]"], ["guidance_method=apg", "guidance_method.parallel=1"]):
        x, summary = sample("label=[3,7]", "guidance=2", *ways)
        np.testing.assert_allclose(x, plain, rtol=0, atol=1e-3)
        assert (summary["guide"], summary["nfe"]) == (None, 8)
    alone, _ = sample("label=[3,7]")
    x, summary = sample("label=[3,7]", "guidance=2", "guidance_interval=[1e-9,1e-8]")
    np.testing.assert_array_equal(x, alone)
    assert (summary["guidance_interval"], summary["nfe"]) == ([1e-9, 1e-8], 4)


def test_a_guide_needs_no_label_and_exact_guidance_brings_its_steps(sample: Any) -> None:
    strong, weak = (load(CLASSES, device="cpu", weights=weights) for weights in ("ema", "raw"))
    x = torch.ones(1, *strong.event_shape)
    low, high = weak.model(x, 0.5).x0, strong.model(x, 0.5).x0
    found = guided(strong, None, 1.5, guide=weak)(x, 0.5).x0
    torch.testing.assert_close(found, low + 1.5 * (high - low), rtol=1e-4, atol=1e-4)
    led, summary = sample("guidance=1.5", f"guide={CLASSES}", "guide_weights=raw")
    assert (summary["guide_weights"], summary["nfe"]) == ("raw", 8)
    assert abs(led - sample()[0]).max() > 1e-3
    _, summary = sample("label=3", "guidance=1", "guidance_method=exact", "guidance_method.particles=2")
    assert summary["guidance_method"]["particles"] == 2
    assert summary["nfe"] == 2 * (2 * (1 + 3 * 3 - 1) + 1)


def test_samples_that_were_stopped_do_not_go_on_with_a_guide_that_trained_on(
    sample: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    weak = shutil.copytree(CLASSES, tmp_path / "weak")
    line = ["sample", f"run={CLASSES}", *DRAW, "guidance=2", f"guide={weak}", "guide_weights=raw", "out=stopped"]
    with monkeypatch.context() as patch:
        patch.setattr(Transform, "finish", stop)
        assert main(line) == 130
    then = checkpoints.read(checkpoints.find(weak))
    step = 2 * then.step
    later = checkpoints.save(weak, replace(then, step=step, state={**then.state, "step": step}))
    capsys.readouterr()
    assert main(line) == 2
    assert "out: stopped/parts holds parts of other samples" in capsys.readouterr().err
    shutil.rmtree(later)
    assert main(line) == 0
    summary = json.loads(Path("stopped/summary.json").read_text())
    assert (summary["guide"], summary["guide_checkpoint_step"]) == (str(weak), then.step)
    x, _ = sample(*line[5:-1])
    np.testing.assert_array_equal(np.load("stopped/samples.npz")["samples"], x)


def test_an_observation_is_seen_through_guidance(sample: Any) -> None:
    x, summary = sample("label=3", "guidance=2", "guidance_interval=[0.2,3]", *SEEN)
    assert summary["guidance_interval"] == [0.2, 3]
    assert not np.array_equal(x, sample("label=3", *SEEN)[0])
    for method in ("exact", "cfgpp"):
        said = sample("label=3", f"guidance_method={method}", *SEEN, code=2)
        assert "guidance_method: it has steps of its own" in said
        assert "give cfg or apg" in said


@pytest.mark.parametrize("method", [None, *options("guidance_method")])
def test_the_methods_of_conf_guide_a_run(method: str | None) -> None:
    rule = None if method is None else named("guidance_method", method)
    run = load(CLASSES, device="cpu")
    model = guided(run, [3, 7], 2.0, None, rule)
    assert isinstance(model, Guided) == (method not in (None, "cfg"))
    assert model.cost == 2
    x = torch.ones(2, *run.event_shape)
    strong = run.conditioned(run.model, [3, 7])(x, 0.5).x0
    assert (model(x, 0.5).x0 - strong).abs().amax() > 1e-4


GUIDED = ["label=3", "guidance=2"]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ([*GUIDED, "guidance_interval=[3,0.2]"], "guidance_interval: [3.0, 0.2] is not allowed"),
        ([*GUIDED, "guidance_interval=[1]"], "guidance_interval: [1.0] is not allowed"),
        ([*GUIDED, "guidance_interval=2"], "guidance_interval: "),
        (["guidance=2", "guidance_interval=[0.2,3]"], "label: null is not allowed"),
        (["label=3", "guidance_interval=[0.2,3]"], "guidance_interval: guidance=1 is the run itself"),
        (["guidance=2", "guidance_method=apg"], "label: null is not allowed"),
        (["label=12", "guidance=2", "guidance_method=apg"], "label: 12 is not allowed"),
        (["label=3", "guidance_method=cfgpp", "solver=auto"], "guidance_method: cfgpp is not defined for Auto"),
        ([*GUIDED, "guidance_method=exact", "corrector=langevin"], "corrector: guidance_method=exact"),
        ([*GUIDED, "guidance_method=exact", "guidance_interval=[0,1]"], "guidance_interval: "),
        (["guidance=2", f"guide={OTHER}"], "was trained on other data"),
        (["guidance=2", "guide=nowhere"], "guide: there is no folder nowhere"),
        ([f"guide={CLASSES}"], "guide: guidance=1 is the run itself"),
        (["guidance=2", f"guide={CLASSES}", "guide_checkpoint=7"], "guide_checkpoint: 7 is not in"),
        (["guidance=2", f"guide={CLASSES}", "guide_weights=old"], "guide_weights: 'old' is not one of ema, raw"),
        (["label=3", "guide_weights=raw"], "guide_weights: raw is that of a folder; give guide=FOLDER"),
    ],
)
def test_what_cannot_guide_is_one_line(sample: Any, typed: list[str], says: str) -> None:
    assert says in sample(*typed, code=2)


def test_a_run_without_classes_is_guided_by_another_alone(sample: Any) -> None:
    said = sample(*GUIDED, "guidance_interval=[0.2,3]", code=2, run=OTHER)
    assert "this network was trained without classes" in said
    x, _ = sample("guidance=2", f"guide={OTHER}", "guide_weights=raw", "guidance_method=apg", run=OTHER)
    assert np.isfinite(x).all()


def test_evaluate_draws_what_sample_draws_and_reads_the_label_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ways = ["label=[3,7]", "guidance=2", "guidance_method=apg", "guidance_interval=[0.2,30]"]
    few = [*DRAW[2:], "n=24"]
    assert main(["sample", f"run={CLASSES}", *few, *ways, "out=drawn"]) == 0
    evaluate = ["evaluate", f"run={CLASSES}", "device=cpu", "logger=none", "metrics=[distances]"]
    assert main([*evaluate, *few, *ways, "out=direct"]) == 0
    assert main([*evaluate, "samples=drawn", "out=stored"]) == 0
    assert main([*evaluate, "samples=drawn", "label=null", "out=all"]) == 0
    found = {name: json.loads(Path(name, "results.json").read_text()) for name in ("direct", "stored", "all")}
    values = {name: one["rows"][0]["values"]["sliced_wasserstein"][0] for name, one in found.items()}
    assert values["stored"] == pytest.approx(values["direct"], rel=5e-3)  # whole levels
    assert abs(values["all"] - values["stored"]) > 0.02 * values["stored"]
    assert found["direct"]["rows"][0]["nfe"] == found["stored"]["rows"][0]["nfe"] > 4
    said = [" ".join(found[name]["notes"]) for name in ("direct", "stored", "all")]
    assert "drawn with label [3, 7] and guidance 2 by apg." in said[0]
    assert "drawn with label [3, 7] and guidance 2 by apg." in said[1]
    assert ["Real data are those of label [3, 7]." in text for text in said] == [True, True, False]
    capsys.readouterr()
    for typed, says in (
        (["samples=drawn", *ways], "samples: they are drawn already"),
        (["guidance=2", "guidance_method=apg"], "label: null is not allowed"),
        (["label=3", "guide_weights=raw"], "guide_weights: raw is that of a folder"),
        (["label=3", "guidance_method=exact", "metrics=[latent]"], "has steps of its own, and no score; leave it out"),
    ):
        assert main([*evaluate, *typed, "out=not"]) == 2
        err = capsys.readouterr().err
        assert says in err, err
        assert err.count("\n") == 1
        assert not Path("not").exists()
