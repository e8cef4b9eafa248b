"""The comparison of samplers: exact endpoints, shared noise, budgets, intervals, and rows that fail."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from support import SOLVERS, built, exact_model, gaussian, mixture, sde_named, solver_named

from scoresde import EDMSDE, VPSDE, Auto, Conditioned, ExactModel, GaussianMixture, InputError, Wrapper, compare
from scoresde.analytic import FiniteData
from scoresde.comparison import Candidate, Comparison, Mixture, Plan, Reference, endpoints, fitting
from scoresde.comparison.brownian import BrownianPath, SharedNoise
from scoresde.comparison.budget import spent
from scoresde.comparison.measure import against
from scoresde.comparison.notes import notes
from scoresde.comparison.problems import Given, plain_transform
from scoresde.comparison.reference import accuracy, smallest_scale
from scoresde.conditional import ConditionalMixture, ExactConditional
from scoresde.control import Guided
from scoresde.data import Dataset
from scoresde.metrics import EnergyDistance, SlicedWasserstein, energy_distance
from scoresde.noise import Noise
from scoresde.results import Metric, Quantity, Results, paired, student
from scoresde.runs.report import write
from scoresde.sampling import (
    DDIM,
    DPMSolverPP2M,
    EulerMaruyama,
    GridSolver,
    Heun,
    Karras,
    LambdaUniform,
    Langevin,
    Sampler,
    Terminal,
    Tuned,
)
from scoresde.sampling.solver import Step
from scoresde.sampling.tuned import AUTO, TunedRule, file_for

GRID_SOLVERS = [name for name in SOLVERS if isinstance(solver_named(name), GridSolver)]


# ---- exact endpoints ----


@pytest.mark.parametrize("r", [3.0, 80.0])
def test_endpoints_of_a_gaussian_are_the_closed_form(r):
    """The flow of a Gaussian scales each axis of its covariance by sqrt(v / (v + r²))."""
    distribution = gaussian()
    y = r * torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, axes, variances = distribution.means[0], distribution.axes[0], distribution.variances[0]
    expected = mean + ((y - mean) @ axes * (variances / (variances + r**2)).sqrt()) @ axes.T
    torch.testing.assert_close(endpoints(distribution, y, r), expected, rtol=0, atol=1e-7)
    rough = (endpoints(distribution, y, r, 1e-4) - expected).abs().max()
    assert rough > 10 * (endpoints(distribution, y, r, 1e-7) - expected).abs().max()


def test_endpoints_of_points_are_points_and_scale_with_them():
    points = torch.randn(30, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = 20 * torch.randn(50, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = endpoints(FiniteData(points), y, 20.0)
    nearest = torch.cdist(found.flatten(1), points.flatten(1)).min(1)
    assert float(nearest.values.max()) < 1e-6
    assert len(nearest.indices.unique()) > 10
    torch.testing.assert_close(endpoints(FiniteData(1000 * points), 1000 * y, 2e4), 1000 * found, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("tolerance", "rough"), [(1e-6, 1e-4), (0.1, 0.5)])
def test_the_accuracy_is_the_distance_to_a_solution_of_a_hundredfold_tolerance(tolerance, rough):
    """Sample by sample, as numpy measures it; a tolerance stays below 1."""
    y = 80 * torch.randn(31, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = endpoints(mixture(), y, 80.0, tolerance)
    apart = np.linalg.norm((endpoints(mixture(), y, 80.0, rough) - found).numpy(), axis=1)
    expected = (np.median(apart), apart.max())
    assert expected[0] > 0
    own = accuracy(mixture(), y, 80.0, tolerance, found)
    assert (own.median, own.largest) == pytest.approx(expected, rel=1e-9)


def test_the_smallest_feature_of_a_distribution():
    assert smallest_scale(mixture()) == pytest.approx(float(mixture().variances.min().sqrt()), rel=1e-12)
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.5], [3.0, 4.5]])
    assert smallest_scale(FiniteData(points)) == pytest.approx(0.5)
    assert smallest_scale(FiniteData(points[:1])) == 1.0


def test_endpoints_of_one_flow_from_two_levels_agree():
    """What a sampler reaches on the way, to 1e-6, has the same endpoint."""
    distribution, sde = mixture(), sde_named("edm")
    model = ExactModel(distribution, sde)
    x = 80 * torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    path = Sampler(Heun(), LambdaUniform(), 3000).path(model, x, Noise(0))
    t, middle = next((t, x) for t, x in path if t < 1)
    torch.testing.assert_close(endpoints(distribution, middle, t), endpoints(distribution, x, 80.0), rtol=0, atol=1e-5)


# ---- one Brownian path ----


def test_a_brownian_path_has_independent_increments_of_the_right_variance():
    path = BrownianPath(Noise(3), (20_000, 1), "cpu")
    ticks = [0, 5, 1000, 1003, 30_000, 2**16]
    w = torch.cat([path.at(t) for t in ticks], dim=1)
    steps = w.diff(dim=1) / torch.tensor(ticks, dtype=torch.float64).diff().sqrt()
    assert w[:, 0].abs().max() == 0
    np.testing.assert_allclose(np.cov(steps.T.numpy()), np.eye(5), atol=0.04)  # 4 standard errors


def test_a_brownian_path_is_the_same_in_any_order_and_batch():
    forward, backward = (BrownianPath(Noise(0, rows), (len(rows), 2), "cpu") for rows in (range(8), range(5, 8)))
    ticks = [1, 77, 4096, 65_535]
    values = {t: forward.at(t) for t in ticks}
    for t in reversed(ticks):
        torch.testing.assert_close(backward.at(t), values[t][5:], rtol=0, atol=1e-12)


def test_a_brownian_path_is_levys_bridge_over_the_numbers_of_its_nodes():
    """Its end is node 0, its middle node 1, the quarters nodes 2 and 3, as in a heap."""
    noise, last = Noise(5), 2**16
    path = BrownianPath(noise, (3, 2), "cpu")
    end, middle, first, third = (noise.normal("brownian", k, (3, 2), dtype=torch.float64) for k in range(4))
    expected = {last: 2**8 * end}
    expected[last // 2] = expected[last] / 2 + 2**7 * middle
    expected[last // 4] = expected[last // 2] / 2 + math.sqrt(2**13) * first
    expected[3 * last // 4] = (expected[last // 2] + expected[last]) / 2 + math.sqrt(2**13) * third
    for tick, value in expected.items():
        torch.testing.assert_close(path.at(tick), value, rtol=0, atol=1e-10)


def test_the_steps_of_a_sampler_are_the_increments_of_the_path():
    """To the resolution of the path; closer times, other purposes and the last step have noise of their own."""
    sde, noise, shape = sde_named("vp"), Noise(2), (4, 2)
    path, first, last = BrownianPath(noise, shape, "cpu"), float(sde.lam(sde.t_start)), float(sde.lam(sde.t_min))
    ticks = [0, 3, 1000, 1000.2, 2**16]
    lams = first + (last - first) * torch.tensor(ticks, dtype=torch.float64) / 2**16
    shared = SharedNoise(noise, sde, sde.t_of_lam(lams))
    drawn = [shared.normal("solver", k, shape, "cpu", torch.float64) for k in range(5)]
    for k, (a, b) in {0: (0, 3), 1: (3, 1000), 3: (1000, 2**16)}.items():
        torch.testing.assert_close(drawn[k], (path.at(b) - path.at(a)) / math.sqrt(b - a), rtol=0, atol=1e-10)
    for k in (2, 4):
        assert torch.equal(drawn[k], noise.normal("solver", k, shape, "cpu", torch.float64))
    other = shared.normal("corrector", 1, shape, "cpu", torch.float64)
    assert torch.equal(other, noise.normal("corrector", 1, shape, "cpu", torch.float64))
    assert shared.seconds > 0
    fresh = SharedNoise(noise, sde, sde.t_of_lam(lams))
    fresh.normal("prior", 0, shape, "cpu", torch.float64)
    assert (fresh.asked, shared.asked) == (False, True)


@pytest.mark.parametrize("solver", [EulerMaruyama(), Auto(1.0)], ids=repr)
def test_step_sizes_share_one_path(solver):
    """On a shared path samples converge to those of 640 steps of Euler-Maruyama (strongly); else they stay apart."""
    sde = sde_named("vp")
    model = ExactModel(gaussian(), sde)

    def end(steps, share, solver=solver):
        sampler, noise = Sampler(solver, LambdaUniform(), steps), Noise(0)
        x = sampler.prior(model, (2,), 100, noise, torch.float64)
        source = SharedNoise(noise, sde, sampler.times(model)) if share else noise
        *_, (_, x) = sampler.path(model, x, source)
        return x

    limit = end(640, True, EulerMaruyama())

    def apart(steps, share):
        return float((end(steps, share) - limit).norm(dim=1).median())

    # a factor of 4 in the steps is one of about 4 at strong order 1, and of 2 at order one half
    assert apart(160, True) < 0.35 * apart(40, True) < 0.1 < apart(160, False)


# ---- budgets ----


@pytest.mark.parametrize("corrector", ["none", "langevin"])
@pytest.mark.parametrize("name", GRID_SOLVERS)
def test_a_budget_is_used_and_not_exceeded(name, corrector):
    sde = sde_named("vp")
    mending = None if corrector == "none" else built("corrector", corrector)
    candidate = Candidate(name, solver_named(name), corrector=mending)
    model = ExactModel(torch.zeros(1, 3), sde)
    for budget in (8, 24):
        steps = fitting(candidate, budget, model, (3,))
        used, more = (spent(candidate.sampler(k), model, (3,)) for k in (steps, steps + 1))
        assert used <= budget < more


def test_guidance_within_an_interval_leaves_more_steps_of_a_budget():
    """What a sampler really spends, call by call, is what its steps were counted for."""
    data = ConditionalMixture(GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[[0.1]]] * 2), [0, 1])
    model, candidate = ExactConditional(data, sde_named("vp")), Candidate("heun", Heun(), Karras())
    steps = {}
    for interval in (None, (0.2, 3.0)):
        guided = Guided(Conditioned(model, [0]), Conditioned(model, [0], 0.0), 2.0, interval)
        steps[interval] = fitting(candidate, 40, guided, (1,))
        sampler = candidate.sampler(steps[interval])
        assert sampler.sample(guided, n=2).nfe == spent(sampler, guided, (1,)) <= 40
    assert steps[0.2, 3.0] > steps[None] + 2


def test_a_tuned_sampler_takes_the_tuned_steps_that_a_budget_of_guidance_allows(tmp_path):
    data = ConditionalMixture(GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[[0.1]]] * 2), [0, 1])
    model, candidate = ExactConditional(data, sde_named("vp")), Candidate("tuned", Tuned(tmp_path))
    (tmp_path / "tuned").mkdir()
    for steps in (6, 12, 14, 15, 20):
        rule = TunedRule(repr(model.sde), Terminal()(model.sde, steps).tolist(), AUTO, None, {})
        file_for(tmp_path, steps).write_text(rule.text())
    strong, weak = Conditioned(model, [0]), Conditioned(model, [0], 0.0)
    taken = {}
    for interval in (None, (0.05, 1.0)):  # the first call, at T, is outside of it
        guided = Guided(strong, weak, 2.0, interval)
        found = [fitting(candidate, budget, guided, (1,)) for budget in (20, 24, 30)]
        taken[interval] = found
        for steps, budget in zip(found[1:], (24, 30), strict=True):
            assert candidate.sampler(steps).sample(guided, n=2).nfe <= budget
    assert taken == {None: [10, 12, 15], (0.05, 1.0): [13, 15, 20]}  # 10 and 13 are not tuned, which a sampler says


def test_a_budget_that_is_too_small_names_what_is_needed():
    with pytest.raises(InputError, match="budgets: 2 is too small for heun; it needs at least 3"):
        fitting(Candidate("heun", Heun()), 2, ExactModel(torch.zeros(1, 3), sde_named("vp")), (3,))


# ---- intervals ----


def test_intervals_of_a_distance_cover_the_truth_at_their_level():
    """Between N(0, 1) and N(0.7, 1) on a line: E = 2 E|N(0.7, 2)| - 2 E|N(0, 2)|."""
    m, s = 0.7, math.sqrt(2)
    folded = s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2)) + m * math.erf(m / (s * math.sqrt(2)))
    truth = 2 * folded - 2 * s * math.sqrt(2 / math.pi)
    rng, covered, trials = np.random.default_rng(0), 0, 400
    for _ in range(trials):
        clouds = torch.from_numpy(rng.normal(size=(2, 6, 80, 1)))
        interval = student([energy_distance(x, y + m) for x, y in zip(*clouds, strict=True)])
        covered += interval.low < truth < interval.high
    assert 0.92 < covered / trials < 0.98  # three standard errors of a coin of 0.95


@pytest.mark.parametrize("k", [2, 3, 5, 8])
@pytest.mark.parametrize("level", [None, 0.95, 0.8, 1 - 0.05 / 28])
def test_intervals_are_those_of_scipy(k, level):
    values = (3 + np.random.default_rng(k).standard_normal(k)).tolist()
    rivals = np.random.default_rng(99).standard_normal(k).tolist()
    level_of, own = (0.95, ()) if level is None else (level, (level,))
    low, high = stats.t.interval(level_of, k - 1, np.mean(values), stats.sem(values))
    assert student(values, *own) == pytest.approx(((low + high) / 2, (high - low) / 2))
    test = stats.ttest_rel(values, rivals).confidence_interval(level_of)
    assert (paired(values, rivals, *own).low, paired(values, rivals, *own).high) == pytest.approx(tuple(test))


def test_statistics_of_the_distance_to_the_endpoint_are_those_of_numpy():
    """On skewed distances, where median, root mean square and percentiles are all apart."""
    distances = np.arange(1, 102, dtype=float) ** 2
    exact = torch.zeros(101, 2, dtype=torch.float64)
    x = torch.from_numpy(np.stack([0.6 * distances, -0.8 * distances], axis=1))
    found = {k: v.value for k, v in against(exact, x, mixture()).items()}
    assert found["endpoint_p95"] == pytest.approx(np.percentile(distances, 95)) == 96.0**2
    assert found["endpoint_median"] == pytest.approx(np.median(distances)) == 51.0**2
    assert found["endpoint_rms"] == pytest.approx(np.sqrt(np.mean(distances**2)))
    component = mixture().component
    assert found["other_basin"] == (component(x) != component(exact)).double().mean()


def test_pairs_see_what_the_single_intervals_hide():
    common = np.random.default_rng(0).normal(size=8)
    a, b = common.tolist(), (common + 0.01).tolist()
    assert paired(a, b).high < 0 < student(a).high
    assert math.isnan(student([1.0]).half)


# ---- rows ----


class Broken(DDIM):
    """Gives NaN from its third step on."""

    def step(self, model, x, plan, state, noise):
        found = super().step(model, x, plan, state, noise)
        return Step(found.x * math.nan, None) if plan[0] < 0.5 else found


class Raising(DDIM):
    def step(self, model, x, plan, state, noise):
        if len(x) > 2:
            raise RuntimeError("no step\nfor you")
        return super().step(model, x, plan, state, noise)


def small(candidates, sdes=("vp",), budgets=(6,), **changes):
    values = {"n": 40, "seeds": 3, "metrics": {"w": SlicedWasserstein(20), "e": EnergyDistance()}, **changes}
    return Plan(values.pop("problem", Mixture()), candidates, {s: sde_named(s) for s in sdes}, budgets, **values)


def test_a_comparison_measures_and_a_failure_is_a_row(tmp_path):
    dopri5 = Candidate("dopri5", solver_named("torchdiffeq", rtol=1e-6, atol=1e-6), tolerance=1e-6)
    fast = [Candidate("2m", DPMSolverPP2M()), Candidate("em", EulerMaruyama()), Candidate("heun", Heun())]
    work = []
    broken = [Candidate("nan", Broken()), Candidate("bad", Raising())]
    comparison = Comparison(small([*fast, dopri5, *broken], budgets=(2, 30)), work.append)
    for row in comparison.rows():
        write(tmp_path, comparison.results)
        assert Results.read(tmp_path / "results.json").rows[-1].name == row.name
    rows = {(row.name, row.budget): row for row in comparison.results.rows}
    assert rows["heun", 2].error == "budgets: 2 is too small for heun; it needs at least 3"
    assert rows["nan", 30].error.startswith("sampler: 40 of 40 samples are NaN or infinite, first at t = 0.4")
    assert rows["bad", 30].error == "RuntimeError: no step for you"
    assert (rows["2m", 30].nfe, rows["heun", 30].nfe, rows["dopri5", None].steps) == (30, 29, None)
    assert rows["dopri5", None].nfe > 20
    assert rows["em", 30].stochastic
    assert "endpoint_rms" not in rows["em", 30].values
    exact = rows["dopri5", None]
    assert exact.interval("endpoint_rms").mean < 1e-3 < rows["2m", 30].interval("endpoint_rms").mean
    assert exact.interval("other_basin").mean == 0
    assert sum(work) == pytest.approx(comparison.work) == 40 * 3 * (5 * (2 + 30) + 150)
    assert set(comparison.results.floors) == {"sliced_wasserstein", "energy_distance"}
    w = comparison.results.quantities["sliced_wasserstein"]
    assert comparison.results.best() == min(comparison.results.ratio(r, w).mean for r in rows.values() if not r.error)
    again = Results.read(tmp_path / "results.json")
    assert again.rows == [*comparison.results.rows] or any(math.isnan(r.nfe) for r in again.rows)


def test_one_endpoint_for_all_sdes_whatever_their_cut_off():
    """A fine solver reaches the float64 reference to float32 rounding under every SDE."""
    comparison = Comparison(small([Candidate("heun", Heun())], ("vp", "ve", "edm"), (150,), dtype=torch.float64))
    for row in comparison.rows():
        assert row.interval("endpoint_median").mean < 3e-3, row.setting
        assert comparison.accuracy[row.setting].largest < 1e-4
    most = (max(getattr(a, key) for a in comparison.accuracy.values()) for key in ("median", "largest"))
    assert "moves them by {:.1g} (median) and at most {:.1g}.".format(*most) in " ".join(notes(comparison))


def test_samples_far_outside_the_data_are_said_and_the_clock_sees_the_sampling_alone(monkeypatch):
    whole = Sampler.batches

    def timed(self, *arguments, **settings):
        for part in whole(self, *arguments, **settings):
            yield replace(part, x=part.x * self.solver.factor, seconds=1.0)

    class Slow(SharedNoise):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.seconds = 0.25

    monkeypatch.setattr(Sampler, "batches", timed)
    monkeypatch.setattr("scoresde.comparison.measure.SharedNoise", Slow)
    candidates = [Candidate(f"x{k:g}", type("Wide", (DDIM,), {"factor": k})()) for k in (0.5, 1.5, 3.0)]
    comparison = Comparison(small(candidates, budgets=(20,), batch_size=25))
    rows = list(comparison.rows())
    assert [row.seconds for row in rows] == [[1.5] * 3] * 3  # two batches for each of three seeds
    (said,) = comparison.far
    assert said.startswith("x3 within 20 evaluations: ")
    assert said in notes(comparison)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 5}, "n: 5 is not allowed"),
        ({"seeds": 1}, "seeds: 1"),
        ({"budgets": [1]}, "budgets: .1. is not allowed; give a list of integers >= 2"),
        ({"budgets": []}, "budgets: "),
        ({"candidates": []}, "solvers: "),
        ({"candidates": [Candidate("a", DDIM())] * 2}, "solvers: 'a' is not allowed; each may be there once"),
    ],
)
def test_impossible_plans_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        small(**{"candidates": [Candidate("ddim", DDIM())], **changes})


def test_a_budget_that_is_too_small_for_all_stops_the_comparison_before_it_begins():
    with pytest.raises(InputError, match="budgets: 2 is too small for heun"):
        Comparison(small([Candidate("heun", Heun())], budgets=(2, 10)))
    with pytest.raises(InputError, match="tolerance: 2"):
        Reference(tolerance=2.0)


def test_a_mixture_problem_is_a_function_of_its_arguments():
    a, b, c = Mixture(3), Mixture(3), Mixture(3, seed=1)
    assert torch.equal(a.distribution.means, b.distribution.means)
    assert not torch.equal(a.distribution.means, c.distribution.means)
    real = a.real(500, [0, 1])
    assert len({float(part.sum()) for d in real for part in (d.train, d.heldout)}) == 4
    assert torch.equal(a.distribution.component(a.distribution.means), torch.arange(5))


def test_the_weights_spreads_and_means_of_a_mixture_are_those_that_it_declares():
    found = Mixture(3, components=400).distribution
    spreads = found.variances.sqrt()
    assert 0.15 < float(spreads.min()) < 0.153 < 0.397 < float(spreads.max()) < 0.4
    assert float(spreads.mean()) == pytest.approx(0.275, abs=0.01)  # uniform
    assert 2.9 < float(found.weights.max() / found.weights.min()) < 3  # from 0.5 to 1.5
    assert float(found.means.std()) == pytest.approx(1, abs=0.08)  # N(0, I)
    assert abs(float(found.means.mean())) < 0.1


PLAIN = {(2,): "points", (3,): "table", (2, 2): "table", (1, 4, 4): "image", (1, 2, 2, 2): "table"}


@pytest.mark.parametrize(("shape", "kind"), PLAIN.items())
def test_plain_items_are_drawn_as_what_their_shape_says(shape, kind):
    transform = plain_transform(shape)
    assert (transform.kind, transform.event_shape) == (kind, shape)
    x = torch.randn(3, *shape)
    assert torch.equal(transform.encode(transform.decode(x)), x)


def test_floors_are_disjoint_as_long_as_there_are_items():
    data = Dataset(torch.arange(60.0)[:, None].repeat(1, 2), torch.zeros(5, 2), plain_transform((2,)))
    given = Given(exact_model(sde_named("vp")), data)
    disjoint = torch.stack([d.train[:, 0] for d in given.real(20, [4, 5, 6])])
    assert sorted(disjoint.flatten().tolist()) == list(range(60))
    several = [d.train[:, 0].tolist() for d in given.real(21, [4, 5, 6])]
    assert all(len(set(own)) == 21 for own in several)
    assert len({*map(tuple, several)}) == 3
    for n, said in ((20, False), (30, True)):
        plan = Plan(given, [Candidate("ddim", DDIM())], {"vp": None}, [2], n=n, seeds=3)
        assert ("too few training items for disjoint floors" in " ".join(notes(Comparison(plan)))) == said


# ---- from Python ----


def test_any_model_is_compared_from_python(tmp_path: Path) -> None:
    problem = Mixture(2)
    model = Foreign(ExactModel(problem.distribution, VPSDE()))
    items = problem.distribution.sample(200, 0).float()
    solvers = ["heun", "unipc_2@karras", DDIM(eta=1.0), Sampler(Heun(), Karras(), corrector=Langevin())]
    found = compare(model, items, solvers=solvers, budgets=[6], n=40, seeds=2, folder=tmp_path)
    assert [row.name for row in found.rows] == ["heun", "unipc_2@karras", "ddim eta=1.0", "heun+langevin@karras"]
    assert all(row.error is None and row.nfe <= 6 for row in found.rows)
    assert [row.stochastic for row in found.rows] == [False, False, True, True]
    assert {q.key for q in found.measured} == {"sliced_wasserstein", "energy_distance", "mmd2"}
    assert str(found.rows[0].interval("mmd2")) in str(found)
    assert "<table" in found._repr_html_()
    assert Results.read(tmp_path / "results.json").content() == found.content()
    assert (tmp_path / "report.html").is_file()
    exact = compare(model, problem.distribution, solvers={"mine": Heun()}, budgets=[150], n=20, seeds=2, metrics=[])
    assert exact.rows[0].interval("endpoint_median").mean < 1e-2
    both = compare(problem, solvers="ddim", budgets=[4], sdes=["vp", EDMSDE()], n=20, seeds=2, metrics=[Hits()])
    assert [(row.setting, len(row.values["hit_ratio"])) for row in both.rows] == [("vp", 2), ("edm", 2)]


class Foreign(Wrapper):
    """A model that cannot be put under another SDE."""

    def forward(self, x, t, cond=None):
        return self.model(x, t, cond)


class Hits(Metric):
    quantities = (Quantity("hit_ratio", direction="higher"),)

    def __call__(self, samples, dataset):
        return {"hit_ratio": float((samples.norm(dim=1) < 1).double().mean())}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": None}, "data: not given"),
        ({"data": torch.zeros(3)}, "data: items of shape"),
        ({"solvers": [3]}, "solvers: 3 is not a sampler; give a name"),
        ({"solvers": ["hein"]}, "solvers: there is no solver hein; did you mean heun"),
        ({"sdes": ["ve"]}, "sdes: ExactModel works under its own SDE only"),
        ({"sdes": ["vvp"]}, "sdes: there is no sde vvp"),
        ({"sdes": [EDMSDE(), EDMSDE(sigma_max=9.0)]}, "sdes: two of them are called edm; give a mapping of names"),
        ({"n": 1000}, "n: 1000 is more than the 30 training items"),
    ],
)
def test_impossible_comparisons_from_python_are_refused(arguments, message):
    model = Foreign(ExactModel(mixture(), VPSDE()))
    with pytest.raises(InputError, match=message):
        compare(model, **{"data": torch.randn(60, 2), "solvers": ["heun"], "n": 20, "seeds": 2, **arguments})
