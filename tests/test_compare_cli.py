"""`scoresde compare` on the command line: results, reports, one line for each mistake, and sweeps put together."""

import contextlib
import csv
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from scoresde.cli.main import main
from scoresde.results import Interval, Quantity, Results, Row, student
from scoresde.results.verdict import verdict

SMALL = ["logger=none", "n=40", "seeds=3", "reference.n=20", "metrics.sliced_wasserstein.projections=20"]
FEW = ["solvers=[heun,ancestral]", "budgets=[6]"]
TRAIN = ["debug=tiny", "model=mlp", "model.net.width=8", "data=array", "logger=none", "n=6", "trainer.steps=2"]
TRAIN += ["~samplers.predictor_corrector", "~samplers.dopri5"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_plots(monkeypatch):
    """Drawing takes most of the time of a small comparison."""
    monkeypatch.setattr("scoresde.comparison.output.quality", lambda *arguments: [])
    monkeypatch.setattr("scoresde.comparison.output.pictures", lambda *arguments: [])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison with one of everything; printed.txt is what was printed. Not to be changed."""
    folder = tmp_path_factory.mktemp("compared")
    entries = "solvers=[ddim,heun@karras,{solver:ddim,eta:1.0},reverse_diffusion+langevin,torchdiffeq]"
    with contextlib.chdir(folder), Path("printed.txt").open("w") as file, contextlib.redirect_stdout(file):
        arguments = ["problem=mixture_2d", *SMALL, entries, "budgets=[2,8]", "tolerances=[1e-2]", "sdes=[vp,ve]"]
        assert main(["compare", *arguments]) == 0
    (out,) = (folder / "runs").iterdir()
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A sweep of two trainings that differ in their seed, and the folder of the first. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    np.save(folder / "t.npy", np.random.default_rng(0).normal(size=(80, 2)))
    with contextlib.chdir(folder):
        assert main(["train", *TRAIN, f"data.path={folder / 't.npy'}", "seed=0,1", "-m"]) == 0
    (sweep,) = (folder / "runs").iterdir()
    return sweep


def failed(capsys, *arguments):
    assert main(["compare", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err[len("error: ") : -1]


def results(out):
    return json.loads((out / "results.json").read_text())


# ---- results ----


def test_all_files_are_there_and_agree(compared):
    names = {p.name for p in compared.iterdir()}
    assert names >= {"config.yaml", "results.json", "results.csv", "report.html", "samples.png"}
    assert names >= {f"quality-{k}.{end}" for k in ("nfe", "seconds") for end in ("png", "svg")}
    stored = results(compared)
    with (compared / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(stored["rows"]) + 1  # and the floor
    for line, row in zip(table, stored["rows"], strict=False):
        assert (line["sampler"], line["error"] or None) == (row["name"], row["error"])
        if row["error"] is None:
            assert float(line["nfe"]) == row["nfe"]
            mean, half = row["intervals"]["sliced_wasserstein"].values()
            assert (float(line["sliced_wasserstein"]), float(line["sliced_wasserstein_half"])) == (mean, half)
            assert mean == pytest.approx(np.mean(row["values"]["sliced_wasserstein"]))


def test_rows_are_what_was_asked_for(compared):
    rows = {(r["name"], r["setting"], r["budget"]): r for r in results(compared)["rows"]}
    assert {setting for _, setting, _ in rows} == {"vp", "ve"}
    assert (rows["ddim", "vp", 8]["nfe"], rows["heun@karras", "vp", 8]["nfe"]) == (8, 7)
    assert rows["reverse_diffusion+langevin", "vp", 8]["nfe"] == 7
    assert rows["heun@karras", "ve", 2]["error"].endswith("it needs at least 3")
    assert [rows[n, "vp", 8]["stochastic"] for n in ("ddim", "ddim eta=1.0")] == [False, True]
    assert rows["torchdiffeq 0.01", "ve", None]["tolerance"] == 0.01


def test_the_terminal_has_table_floor_failures_and_verdict(compared):
    printed = (compared.parents[1] / "printed.txt").read_text()
    assert max(map(len, printed.splitlines())) < 250
    assert re.search(r"^heun@karras +vp +8 +4 +7 ", printed, re.MULTILINE)
    assert re.search(r"^floor: real data +\d", printed, re.MULTILINE)
    assert "heun@karras, ve with budget 2: budgets: 2 is too small" in printed
    assert "  8 evaluations: " in printed
    assert results(compared)["verdict"][-1] in printed


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.outside, self.images, self.open = [], 0, []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.images += tag == "img"
        self.outside += [v for k, v in values.items() if k in ("src", "href") and not v.startswith("data:")]
        if tag not in ("meta", "img", "input", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_needs_nothing_but_itself(compared):
    page, parser = (compared / "report.html").read_text(), Links()
    parser.feed(page)
    assert (parser.outside, parser.open, parser.images) == ([], [], 3)
    kinds = [page.count(f"data:image/{kind};base64,") for kind in ("svg+xml", "png")]
    assert kinds == [2, 1]  # plots as lines at any size, and pictures
    assert "<dt>95 %</dt><dd>95th percentile of the distance" in page  # of quantities that the terminal leaves out too
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    for title in ("Verdict", "Table", "Plots", "Samples", "How it was measured", "Configuration"):
        assert f"<h2>{title}</h2>" in page


def test_samples_of_a_run_and_the_floor_of_its_training_data(trained, here, capsys, no_plots):
    run = next(trained.glob("1-*"))
    assert main(["compare", f"run={run}", *SMALL, *FEW, "n=20", "out=a", "sde=edm"]) == 0
    stored = results(here / "a")
    assert [r["nfe"] for r in stored["rows"]] == [5, 6]
    assert {r["setting"] for r in stored["rows"]} == {"edm"}  # not the VP of its training
    assert stored["floors"]["energy_distance"]
    assert "endpoint_rms" not in stored["rows"][0]["values"]
    assert failed(capsys, f"run={run}", "n=1000").startswith("n: 1000 is more than the 72 training items")


def test_images_of_a_finite_law(here):
    digits = ["problem=digits", *SMALL, "solvers=[ddim]", "budgets=[3]", "metrics=distances", "n=20", "seeds=2"]
    assert main(["compare", *digits, "out=a", "reference.n=4"]) == 0
    assert (here / "a" / "samples-3.png").stat().st_size > 1000
    assert results(here / "a")["rows"][0]["values"]["other_basin"][0] > 0.2


def test_an_interruption_keeps_the_finished_rows(here, capsys, monkeypatch, no_plots):
    from scoresde.comparison.measure import Comparison
    from scoresde.loggers import WandbLogger

    whole = Comparison._measured

    def second_is_interrupted(self, *arguments):
        if self.results.rows:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(Comparison, "_measured", second_is_interrupted)
    sent = []
    monkeypatch.setattr(WandbLogger, "start", lambda self, *a, **k: None)
    monkeypatch.setattr(WandbLogger, "table", lambda self, name, columns, rows, step: sent.append((name, len(rows))))
    assert main(["compare", "problem=mixture_2d", *SMALL, *FEW, "out=a", "logger=wandb"]) == 130
    assert sent == [("comparison", 2)]  # the finished row, and the floor
    assert [r["name"] for r in results(here / "a")["rows"]] == ["heun"]
    assert "Stopped before all rows" in (here / "a" / "report.html").read_text()
    assert "stopped by Ctrl-C" in capsys.readouterr().err


def test_weights_and_biases_gets_table_and_plots(here, monkeypatch):
    from scoresde.loggers import WandbLogger

    seen = []
    monkeypatch.setattr("scoresde.comparison.output.quality", lambda c, k, stem: [stem.with_suffix(".png")] * 2)
    monkeypatch.setattr("scoresde.comparison.output.pictures", lambda *arguments: [])
    (here / "a").mkdir()
    for name in ("nfe", "seconds"):
        (here / "a" / f"quality-{name}.png").touch()
    monkeypatch.setattr(WandbLogger, "start", lambda self, *a, **k: seen.append("start"))
    monkeypatch.setattr(WandbLogger, "table", lambda self, name, columns, rows, step: seen.append((name, len(rows))))
    monkeypatch.setattr(WandbLogger, "picture", lambda self, name, path, step: seen.append(name))
    assert main(["compare", "problem=mixture_2d", *SMALL, *FEW, "out=a", "logger=wandb"]) == 0
    assert seen == ["start", ("comparison", 3), "quality-nfe", "quality-seconds"]


# ---- mistakes ----


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "run: not given; give run=FOLDER of a trained run, problem="),
        (["run=a", "problem=digits"], "run and problem: only one is possible"),
        (["run=nowhere"], "run: there is no folder nowhere"),
        (["folder=nowhere"], "folder: there is no folder nowhere"),
        (["folder=."], "folder: . has no results in it"),
        (["problem=mixture_3d"], "problem=mixture_3d: problem has no option mixture_3d; did you mean mixture_2d?"),
        (["problem=mixture_2d", "solvers=[heunn]"], "solvers: there is no solver heunn; did you mean heun?"),
        (["problem=mixture_2d", "solvers=[heun@karas]"], "solvers: there is no grid karas; did you mean karras?"),
        (["problem=mixture_2d", "solvers=[heun,heun]"], "solvers: 'heun' is not allowed; each may be there once"),
        (["problem=mixture_2d", "solvers=[{solver:ddim,etta:1}]"], "solvers: ddim etta=1: ddim has no etta; did you"),
        (
            ["problem=mixture_2d", "solvers=[heun,peer:unipcc]"],
            "solvers: peer:unipcc is not known; did you mean peer:unipc",
        ),
        (["problem=mixture_2d", "solvers=[7]"], "solvers: 7 is not a sampler"),
        (
            ["problem=mixture_2d", "solvers=[heun]", "budgets=[2]"],
            "budgets: 2 is too small for heun; it needs at least 3",
        ),
        (["problem=mixture_2d", "budgets=[1]"], "budgets: [1] is not allowed; give a list"),
        (["problem=mixture_2d", "n=2"], "n: 2 is not allowed; give at least 20"),
        (["problem=mixture_2d", "seeds=1"], "seeds: 1 is not allowed; give at least 2"),
        (["problem=mixture_2d", "seeds=[0,1]"], "seeds: [0, 1] is not an integer"),
        (["problem=mixture_2d", "sdes=3"], "sdes: there is no sde 3 (options: cosine, "),
        (["problem=mixture_2d", "sde=vp", "sdes=[ve]"], "sdes: given together with sde"),
        (["problem=mixture_2d", "dtype=half"], "dtype: 'half' is not one of float32, float64"),
        (["problem=mixture_2d", "problem.dimension=0"], "problem.dimension: 0 is not allowed"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(here, capsys, arguments, line):
    assert failed(capsys, *arguments).startswith(line)
    assert not list(here.iterdir())


# ---- put together ----


def test_a_metric_of_the_users_own_shows_everywhere(here, capsys, no_plots):
    (here / "hits.py").write_text(
        "from scoresde.results import Metric, Quantity\n"
        "class HitRatio(Metric):\n"
        "    quantities = (Quantity('hit_ratio', 'hits', 'share in the unit ball', '', '', 'higher', 'train'),)\n"
        "    def __call__(self, samples, dataset):\n"
        "        return {'hit_ratio': float((samples.norm(dim=1) < 1).double().mean())}\n"
    )
    np.save("t.npy", np.random.default_rng(0).normal(size=(80, 2)))
    own = ["+metrics.hits._target_=hits.HitRatio", "allow=[hits]"]
    assert main(["train", *TRAIN, *own, "data.path=t.npy", "run=run"]) == 0
    assert re.search(r"^hits +share in the unit ball; higher is better$", capsys.readouterr().out, re.MULTILINE)
    assert main(["compare", "problem=mixture_2d", *SMALL, *FEW, *own, "out=compared"]) == 0
    assert " hits" in capsys.readouterr().out
    assert "hit_ratio_half" in (here / "compared" / "results.csv").read_text()
    assert ">hits</th>" in (here / "compared" / "report.html").read_text()
    assert main(["compare", "folder=run", "logger=none", "out=collected"]) == 0
    (row,) = results(here / "collected")["rows"]
    floors = results(here / "collected")["floors"]
    (drawn,) = json.loads((here / "run" / "summary.json").read_text())["results"]["rows"]
    assert row["values"] == drawn["values"]
    assert floors["hit_ratio"][0] > 0


def test_a_sweep_of_comparisons_in_one_table(here, no_plots):
    sweep = ["problem=mixture_2d", *SMALL, "solvers=[ddim]", "budgets=[4]", "sde=vp,edm", "reference.n=0", "-m"]
    assert main(["compare", *sweep]) == 0
    (folder,) = (here / "runs").iterdir()
    assert main(["compare", f"folder={folder}", "logger=none", "out=a"]) == 0
    stored = results(here / "a")
    assert sorted(r["setting"] for r in stored["rows"]) == ["edm", "vp"]
    assert stored["comparable"]
    assert "4 evaluations: ddim, " in (here / "a" / "report.html").read_text()


def test_a_job_that_was_run_twice_is_one_seed(here, no_plots):
    """Whole, or in part: of the seeds 0, 1 and 1, 2 three are independent."""
    one = [*("problem=mixture_2d", *SMALL, "solvers=[ddim]", "budgets=[4]", "reference.n=0"), "seeds=2"]
    for out, seed in (("s/a", 0), ("s/b", 0), ("s/c", 1)):
        assert main(["compare", *one, f"out={out}", f"seed={seed}"]) == 0
    assert main(["compare", "folder=s", "logger=none", "out=all"]) == 0
    (row,) = results(here / "all")["rows"]
    first, _, last = (results(here / "s" / k)["rows"][0]["values"]["energy_distance"] for k in "abc")
    assert row["values"]["energy_distance"] == [*first, last[1]]
    assert len(results(here / "all")["floors"]["energy_distance"]) == len(row["seconds"]) == 3
    assert "3 repetitions of a configuration and seed that is there already" in " ".join(results(here / "all")["notes"])
    assert main(["compare", "folder=s/a", "logger=none", "out=one"]) == 0
    assert "are not counted" not in " ".join(results(here / "one")["notes"])
    assert results(here / "one")["rows"][0]["values"]["energy_distance"] == first


def test_a_job_that_failed_and_was_run_again_has_not_failed(here, no_plots):
    one = ["problem=mixture_2d", *SMALL, "solvers=[ddim]", "budgets=[4]", "reference.n=0"]
    for out in ("s/a", "s/b"):
        assert main(["compare", *one, f"out={out}"]) == 0
    stored = results(here / "s/a")
    stored["rows"][0] |= {"values": {}, "seconds": [], "error": "killed"}
    (here / "s/a/results.json").write_text(json.dumps(stored))
    assert main(["compare", "folder=s", "logger=none", "out=all"]) == 0
    (row,) = results(here / "all")["rows"]
    assert (row["error"], len(row["seconds"])) == (None, 3)


def test_trainings_that_differ_in_their_seed_are_one_row(trained, here, no_plots):
    assert main(["compare", f"folder={trained}", "logger=none", "out=a"]) == 0
    (row,) = results(here / "a")["rows"]
    both = [json.loads(p.read_text())["results"]["rows"][0]["values"] for p in sorted(trained.glob("*/summary.json"))]
    assert row["values"]["sliced_wasserstein"] == [b["sliced_wasserstein"][0] for b in both]


def test_samples_of_a_run_get_figures(trained, here, no_plots):
    run = next(trained.glob("1-*"))
    assert main(["sample", f"run={run}", "n=50", "sampler.steps=4", "solver=heun,ddim", "seed=0,1", "-m"]) == 0
    assert main(["compare", f"folder={run / 'samples'}", "logger=none", "out=a"]) == 0
    rows = {r["name"]: r for r in results(here / "a")["rows"]}
    assert {name: r["nfe"] for name, r in rows.items()} == {"heun 4": 7, "ddim 4": 4}
    assert {r["setting"].partition(",")[0] for r in rows.values()} == {"heun", "ddim"}
    assert all(len(r["values"]["energy_distance"]) == 2 for r in rows.values())


def test_samples_that_differ_in_more_than_the_seed_are_several_rows(trained, here, no_plots):
    """The same seed of two networks is no repetition; other weights are another sampler."""
    for k, run in enumerate(sorted(trained.glob("?-*"))):
        for weights in ("ema", "raw"):
            one = ["n=30", "sampler.steps=3", "solver=ddim", f"weights={weights}", f"out=s/{k}{weights}"]
            assert main(["sample", f"run={run}", *one]) == 0
    assert main(["compare", "folder=s", "logger=none", "out=a"]) == 0
    rows = results(here / "a")["rows"]
    assert [(r["setting"], len(r["seconds"])) for r in rows] == [("weights=ema", 2), ("weights=raw", 2)]
    Path("s/1raw/samples.npz").unlink()  # killed before they were written
    assert main(["compare", "folder=s", "logger=none", "out=a"]) == 0
    assert [len(r["seconds"]) for r in results(here / "a")["rows"]] == [2, 1]


# ---- words ----


DISTANCE = {"mmd2": Quantity("mmd2", direction="lower", floor="train")}


def judged(**values):
    rows = [Row(name, budget=10, nfe=10, values={"mmd2": numbers}) for name, numbers in values.items()]
    return verdict(Results("p", 100, 4, rows, DISTANCE, {"mmd2": [0.0, 0.1, -0.1, 0.05]}))[2]


def test_a_verdict_calls_only_what_is_larger_than_its_interval():
    common = np.array([0.0, 3.0, -2.0, 1.0]) + 20
    line = judged(a=common.tolist(), b=(common + 1 + np.array([0, 0.01, 0, 0.01])).tolist())
    assert "10 evaluations: a, " in line
    assert "better than b by 1.005" in line  # although the intervals of both overlap
    assert "not distinguishable from real data" not in line
    line = judged(a=[1.0, 2.0, 3.0, 4.0], b=[2.0, 1.0, 4.0, 3.5])
    assert "not significantly better than b (worse by at most " in line
    assert "not distinguishable from real data" in judged(a=[0.1, 0.0, -0.1, 0.1])
    row = Row("a", budget=10, nfe=10, values={"mmd2": [0.1]})
    one = verdict(Results("p", 100, 1, [row], DISTANCE, {"mmd2": [0.0]}))
    assert one[3] == "  10 evaluations: a, 0.1."  # a single seed has no interval to judge by
    assert one[0] == "One seed gives no interval, so no sampler is called the best."


def test_many_pairs_need_more_evidence_than_one():
    a, b = [0.0, 0.0, 0.0, 0.0], [1.0, 1.2, 0.6, 2.0]
    assert "better than b" in judged(a=a, b=b)
    others = {f"c{i}": [5.0 + i] * 4 for i in range(10)}
    assert "not significantly better than b" in judged(a=a, b=b, **others)


def advice(floor=(0.0, 0.1, -0.1, 0.05), **values):
    """The first lines of a verdict on samplers with values of a distance at 5, 10 and 20 evaluations."""
    noise = np.array([0.05, -0.1, 0.1, -0.05])[: max(len(floor), 3)]
    rows = [
        Row(name, budget=budget, nfe=budget, values={"mmd2": (mean + noise).tolist()})
        for name, means in values.items()
        for budget, mean in zip((5, 10, 20), means, strict=True)
    ]
    floors = {"mmd2": list(floor)} if floor[0] is not None else {}
    return verdict(Results("p", 100, 4, rows, DISTANCE, floors))[:2]


def test_the_first_line_is_the_answer_that_the_intervals_allow():
    near = "cannot be distinguished from real data by mmd2."
    assert advice(a=(9, 4, 0), b=(5, 3, 2))[0] == f"Use a: from 20 evaluations on it {near}"
    assert advice(a=(9, 4, 0), b=(5, 0, 0))[0] == f"Use b: from 10 evaluations on it {near}"
    assert advice(a=(9, 0, 3), b=(5, 4, 0))[0] == f"Use b: from 20 evaluations on it {near}"  # a gets worse again
    assert advice(a=(9, 4, 0))[0] == f"a: from 20 evaluations on it {near}"
    best = "Use a: at 10 and 20 evaluations no other is significantly better by mmd2"
    assert advice(a=(9, 4, 2), b=(5, 5, 5))[0] == f"{best}; it can be distinguished from real data."
    assert advice((None,) * 4, a=(9, 4, 2), b=(5, 5, 5))[0] == f"{best}."
    assert advice(floor=(0.0,), a=(9, 4, 2), b=(5, 5, 5))[0][-9:] == " by mmd2."  # a floor that was not repeated
    assert advice(a=(1, 1, 1))[1] == "By the mmd2:"
    assert advice(floor=(0.0, 0.1, -0.1), a=(1, 1, 1))[1].startswith("Warning: 3 seeds are few")


def adaptive(*values, **others):
    """The line on an adaptive solver of 12 evaluations and these values, beside samplers at 10 and at 20."""
    rows = [Row(name, budget=10, nfe=10, values={"mmd2": own}) for name, own in others.items()]
    rows.append(Row("more", budget=20, nfe=20, values={"mmd2": [0.0] * len(values)}))
    rows.append(Row("ad 0.1", tolerance=0.1, nfe=12, values={"mmd2": list(values)}))
    return verdict(Results("p", 100, len(values), rows, DISTANCE))[-1]


def test_an_adaptive_solver_is_judged_against_the_best_that_spends_no_more():
    a, b = [1.0, 2.0, 3.0, 4.0], [5.0, 6.5, 7.0, 8.0]
    start = "  ad 0.1 spends 12 evaluations: "
    worse = np.array([4.0, 4.0, 4.2, 4.0])
    level = 1 - 0.05 / 2  # of two rivals
    half = stats.t.ppf((1 + level) / 2, 3) * stats.sem(worse)
    assert adaptive(*(np.array(a) + worse), a=a, b=b) == (
        f"{start}{student(np.array(a) + worse)}, worse than a with budget 10 by {Interval(worse.mean(), half)}."
    )
    line = adaptive(*(np.array(a) - worse), a=a, b=b)
    assert line.endswith(f", better than a with budget 10 by {Interval(worse.mean(), half)}.")
    noise = np.array([0.5, -0.5, 0.4, -0.3])
    high = noise.mean() + stats.t.ppf((1 + level) / 2, 3) * stats.sem(noise)
    for sign in (1, -1):
        line = adaptive(*(np.array(a) + sign * noise), a=a, b=b)
        assert line.endswith(f", not significantly different from a with budget 10 (by at most {high:.2g}).")
    same = adaptive(*a, a=a, b=b)
    assert same.endswith(", not significantly different from a with budget 10 (by at most 0).")
    assert adaptive(1.0, a=[2.0]).endswith(", not significantly different from a with budget 10 (one seed).")


def test_samplers_that_draw_the_same_are_not_better_than_each_other():
    same = [1.0, 2.0, 3.0, 4.0]
    assert "not significantly better than b (worse by at most 0)" in judged(a=same, b=same)
    assert advice(a=(9, 4, 2), b=(9, 4, 2))[0].startswith("Use a: at 5, 10 and 20 evaluations no other")


def test_failures_and_mixed_problems_are_said():
    rows = [Row("a", budget=5, error="NaN"), Row("b", budget=5, nfe=5, values={"mmd2": [1.0, math.nan]})]
    lines = verdict(Results("p", 100, 2, rows, DISTANCE, {"mmd2": [0.0, 0.0]}))
    assert lines[-1] == "Without a result: a with budget 5."
    assert not any("b," in line for line in lines)
    (line,) = verdict(Results("p", 0, 2, rows, comparable=False))
    assert "not ranked" in line


def test_numbers_are_written_with_the_digits_that_count():
    assert str(Interval(0.034123, 0.0021456)) == "0.0341 ± 0.0021"
    assert str(Interval(123.4, 21)) == "123 ± 21"
    assert str(Interval(-7.3e-4, 4.5e-4)) == "-0.00073 ± 0.00045"
    assert str(Interval(1.234e-6, 2.1e-8)) == "1.234e-6 ± 0.021e-6"
    assert str(Interval(0.25, 1e-9)) == "0.25"
    assert str(Interval(math.nan, math.nan)) == ""
    assert str(Interval(-0.001, 0.46)) == "0.00 ± 0.46"
    assert str(Interval(0.5, math.nan)) == "0.5"
