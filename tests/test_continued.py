"""An evaluation that is stopped at any moment goes on: to the same bits, with the batches that it has."""

import json
import random
import shlex
import signal
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from scoresde import runs
from scoresde.checks import Calibration
from scoresde.cli.main import main
from scoresde.divergence import Hutchinson
from scoresde.likelihood import LatentQuality, NegativeLogLikelihood, Outliers
from scoresde.sampling import DDIM, Sampler
from scoresde.workflows.evaluate import Evaluation

RUN = Path(__file__).parent / "fixtures/d14582e/run"
FEW = {"n": 5, "batch_size": 2, "steps": 3}
METRICS = {
    "likelihood": NegativeLogLikelihood(divergence=Hutchinson(2), draws=2, bound_draws=1, **FEW),
    "latent": LatentQuality(ito=3, **FEW),
    "outliers": Outliers(divergence=Hutchinson(1), **FEW),
    "calibration": Calibration("inpaint", "diffpir", Sampler(DDIM(), steps=3), 5, 9, batch_size=2),
}


def files(folder):
    return {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run, its results, and the number of evaluations of the network that they take."""
    what, calls = Evaluation(runs.load(RUN), METRICS), []
    hook = what.run.model.net.register_forward_hook(lambda *_: calls.append(1))
    folder = tmp_path_factory.mktemp("whole")
    results = what.results(folder)
    hook.remove()
    made = files(folder)
    what.report(folder, results, {})
    return what, results, len(calls), made.keys(), files(folder)


def stop_after(calls):
    """A hook that interrupts at a call of the network."""
    left = iter(range(calls))

    def hook(*_):
        if next(left, None) is None:
            raise KeyboardInterrupt

    return hook


@pytest.mark.parametrize("seed", range(3))
def test_a_stop_at_any_moment_changes_no_bit(whole, tmp_path, seed):
    what, results, calls, made, finished = whole
    stop = int(calls * (seed + random.Random(seed).random()) / 3)
    hook = what.run.model.net.register_forward_hook(stop_after(stop))
    with pytest.raises(KeyboardInterrupt):
        what.results(tmp_path)
    hook.remove()
    before = {name: path.stat().st_ino for name, path in files(tmp_path).items() if name.endswith(".npz")}
    again = what.results(tmp_path)
    after = files(tmp_path)
    assert after.keys() == made
    parts = [name for name in before if "/parts/" in name]
    assert bool(parts) or seed == 0
    assert [after[name].stat().st_ino for name in parts] == [before[name] for name in parts]  # not computed again
    assert repr(again.rows[0].values) == repr(results.rows[0].values)
    assert repr(again.rows[0].halves) == repr(results.rows[0].halves)
    what.report(tmp_path, again, {})
    after = files(tmp_path)
    assert after.keys() == finished.keys()
    for name in filter(lambda name: name.endswith(".npz"), after):
        one, other = np.load(after[name]), np.load(finished[name])
        assert all(one[key].tobytes() == other[key].tobytes() for key in other.files)


def test_after_ctrl_c_the_hint_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("scoresde.workflows.evaluate.page", lambda *_: "")
    typed = ["evaluate", f"run={RUN}", "metrics=[likelihood,latent]", "logger=none", "metrics.latent.n=4", "label=null"]
    typed += [f"metrics.likelihood.{key}" for key in ("n=4", "batch_size=2", "steps=3", "bound_draws=0")]
    assert main([*typed, f"out={tmp_path / 'whole'}"]) == 0
    moments = iter(range(3))
    # what runs in the background of a shell ignores SIGINT
    monkeypatch.setattr(signal, "raise_signal", lambda _: signal.default_int_handler(signal.SIGINT, None))

    class Bar:
        n = 0

        def update(self, count):
            self.n += count
            if self.n == 3 and next(moments, None) is not None:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("scoresde.likelihood.batches.bar", lambda *_, **__: nullcontext(Bar()))
    capsys.readouterr()
    line = shlex.join([*typed, f"out={tmp_path / 'it is here'}"])
    for _ in range(3):
        assert main(shlex.split(line)) == 130
        hint, said = capsys.readouterr().err.splitlines()
        assert said == "error: stopped by Ctrl-C"
        line = hint.removeprefix("continue with: scoresde ")
        assert set(shlex.split(line)) == {*typed, f"out={tmp_path / 'it is here'}"}
    assert main(shlex.split(line)) == 0
    one, other = (tmp_path / name for name in ("whole", "it is here"))
    assert files(one).keys() == files(other).keys()
    values = [json.loads((folder / "results.json").read_text())["rows"][0]["values"] for folder in (one, other)]
    assert values[0] == values[1]
