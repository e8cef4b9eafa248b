"""The public names: all there, listed once, and objects whose repr constructs equal ones."""

import copy
import threading

import pytest
import torch
from support import CORRECTORS, SDES, SOLVERS, built, exact_model, options, sde_named, solver_named

import scoresde
from scoresde import InputError, Sampler

GRIDS = [name for name in options("grid") if name not in ("auto", "list")]


class Namespace(dict):
    """The public names as `eval` looks them up."""

    def __missing__(self, name):
        return getattr(scoresde, name)


def again(obj):
    return eval(repr(obj), {"__builtins__": {}}, Namespace())


def test_all_names_of_a_package_are_public():
    for module in ("sampling", "sde", "control", "loss", "figures"):
        exported = set(getattr(scoresde, module).__all__) - {"Level", "Step", "half_log_snr"}
        assert exported <= set(scoresde.__all__)
    for name in scoresde.__all__:
        assert getattr(scoresde, name) is not None
        assert name in dir(scoresde)


@pytest.mark.parametrize(
    "obj",
    [solver_named(name) for name in (*SOLVERS, "tuned")]
    + [built("grid", name) for name in GRIDS]
    + [built("corrector", name) for name in CORRECTORS]
    + [
        scoresde.Explicit([1.0, 0.5]),
        scoresde.Tuned("a/run"),
        scoresde.ExponentialMultistep(eta=scoresde.EtaWindow(0.5, highest=2.0)),
        scoresde.Ancestral(0.3),
    ],
    ids=repr,
)
def test_a_repr_constructs_an_equal_object(obj):
    assert repr(again(obj)) == repr(obj)
    assert vars(again(obj)) == vars(obj)


def test_the_reprs_of_samplers_and_likelihoods_too():
    sampler = Sampler(scoresde.DDIM(), scoresde.Karras(), 7, eta=0.5, corrector=scoresde.Langevin(), denoise=False)
    likelihood = scoresde.Likelihood(scoresde.Heun(), divergence=scoresde.Hutchinson(2), steps=7)
    for obj in (sampler, likelihood):
        assert repr(again(obj)) == repr(obj)


def test_objects_by_name():
    for group, names, make in (
        ("solver", SOLVERS, scoresde.solver),
        ("grid", GRIDS, scoresde.grid),
        ("corrector", CORRECTORS, scoresde.corrector),
    ):
        for name in names:
            assert repr(make(name)) == repr(built(group, name))
    for name in SDES:
        assert repr(scoresde.sde(name, **({"sigma_max": 50.0} if name == "ve" else {}))) == repr(sde_named(name))
    assert scoresde.solver("unipc_2", eta=1) == solver_named("unipc_2", eta=1.0)
    assert scoresde.grid("auto") is scoresde.corrector("none") is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scoresde.solver("unipc2"), "solver: there is no solver unipc2; did you mean unipc_2"),
        (lambda: scoresde.grid("karas"), "did you mean karras"),
        (lambda: scoresde.corrector("langvin"), "did you mean langevin"),
        (lambda: scoresde.sde("vpp"), "did you mean vp"),
        (lambda: scoresde.sde("ve"), r"sde\.sigma_max: .*sigma_max=50"),
        (lambda: scoresde.solver("unipc_2", etta=1), r"solver\.etta: .*did you mean solver\.eta"),
        (lambda: scoresde.solver("unipc_2", predictor=9), "predictor: 9"),
    ],
)
def test_wrong_names_are_one_line(make, message):
    with pytest.raises(InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_the_package_of_sdes_stays_a_package():
    import scoresde.sde as package
    from scoresde.sde import VPSDE

    assert package.VPSDE is VPSDE is scoresde.VPSDE
    assert isinstance(package("vp"), VPSDE)


@pytest.mark.parametrize("solver", ["dpmpp_2m", "adaptive_bosh3", "ancestral"])
def test_threads_that_sample_one_model_draw_what_one_draws(solver):
    """Also while the levels that an SDE remembers are thrown away again and again."""
    model, sampler = exact_model(sde_named("vp")), Sampler(solver_named(solver), steps=20)
    expected = [sampler.sample(model, n=3, seed=seed) for seed in range(8)]
    results, done = {}, threading.Event()

    def draw(seed):
        results[seed] = [sampler.sample(model, n=3, seed=seed) for _ in range(3)]

    def forget():
        while not done.is_set():
            model.sde._levels.clear()

    other = threading.Thread(target=forget)
    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(8)]
    for thread in (other, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    other.join()
    for seed, once in enumerate(expected):
        for found in results[seed]:
            assert torch.equal(found.x, once.x)
            assert found.nfe == once.nfe


def test_an_sde_is_copied_while_another_thread_uses_it():
    sde, done = scoresde.VPSDE(), threading.Event()
    sde.remember(torch.linspace(0.1, 1, 500, dtype=torch.float64))

    def use():
        k = 0
        while not done.is_set():
            k += 1
            sde.at(0.1 + 1e-7 * k)

    other = threading.Thread(target=use)
    other.start()
    try:
        for _ in range(50):
            assert copy.deepcopy(sde).at(0.5) == sde.at(0.5)
    finally:
        done.set()
        other.join()


def test_stored_multistep_rules_keep_their_meaning():
    from scoresde.build import build
    from scoresde.runs.upgrade import upgraded

    stored = {"_target_": "scoresde.sampling.ExponentialMultistep", "order": 2, "corrector": 3}
    assert build(upgraded({"solver": stored})["solver"]) == scoresde.ExponentialMultistep(predictor=2, corrector=3)
