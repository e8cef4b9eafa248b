"""Objects by the names of their YAML files."""

import pytest

from scoresde import VPSDE, InputError
from scoresde.named import named, options
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
