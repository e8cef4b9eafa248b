"""Objects by the names of their YAML files."""

import pytest

from scoresde import DDIM, VPSDE, InputError
from scoresde.named import name_of, named, option, options
from scoresde.nets import ResidualMLP


def test_an_option_is_built_with_changes():
    assert repr(named("sde", "vp", beta_max=15.0)) == repr(VPSDE(beta_max=15.0))
    model = named("model", "mlp", sigma_data=1.0, runtime={"event_shape": (3,), "sde": VPSDE()})
    assert isinstance(model.net, ResidualMLP)
    assert set(options("grid")) >= {"karras", "lambda"}


def test_a_wrong_name_or_argument_is_one_line():
    with pytest.raises(InputError, match=r"solver: there is no solver huen; did you mean heun\? \(options: "):
        named("solver", "huen")
    with pytest.raises(InputError, match=r"sde.betamax: .*did you mean sde.beta_max"):
        named("sde", "vp", betamax=1)


@pytest.mark.parametrize("group", ["sde", "solver", "grid", "corrector", "data", "model", "loss"])
def test_every_option_has_its_own_name(group):
    for name in options(group):
        content = option(group, name)
        if content and "???" not in str(content):
            assert name_of(group, content) == name


def test_the_name_of_an_object_is_that_of_the_nearest_option():
    class Mine(DDIM):
        pass

    assert name_of("solver", named("solver", "dpmpp_2m")) == "dpmpp_2m"
    assert name_of("sde", VPSDE(beta_max=15.0)) == "vp"
    assert name_of("model", {**option("model", "adm"), "precond": "v"}) == "adm"
    assert name_of("solver", Mine()) == "Mine"
    assert name_of("model", {"_target_": "scoresde.ScoreModel", "net": {"_target_": "mynets.Net"}}) == "Net"
