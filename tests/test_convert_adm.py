"""Networks of guided-diffusion, iDDPM and torchcfm become the same function, whatever their heads and norms."""

from pathlib import Path
from typing import Any

import pytest
import torch
from adm_layout import Recipe, network
from score_sde_layout import Weights

import scoresde
from scoresde import InputError, RectifiedSDE
from scoresde.convert import convert
from scoresde.convert.adm import _meaning
from scoresde.convert.diffusers import _check_ve
from scoresde.convert.plan import Facts, Given

RECIPES = {  # by the flags of the original
    "the published one for 128 pixels": Recipe(updown=True, outputs=6),
    "iddpm": Recipe(blocks=2, attention=(1,), outputs=6),
    "torchcfm": Recipe(scale_shift=False),
    "new order": Recipe(new_order=True),
    "one head": Recipe(heads=1, scale_shift=False, updown=True),
}


def saved(recipe: Recipe, folder: Path) -> tuple[Weights, Path]:
    w = Weights(3)
    network(w, recipe, torch.zeros(1, 3, 8, 8, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    torch.save(w.tensors, folder / "net.pt")
    return w, folder / "net.pt"


@pytest.mark.parametrize("kind", RECIPES)
def test_heads_of_every_width_and_both_kinds_of_modulation(kind: str, tmp_path: Path) -> None:
    recipe = RECIPES[kind]
    w, file = saved(recipe, tmp_path)
    flags: dict[str, Any] = {"image_size": 8, "num_heads": recipe.heads, "use_new_attention_order": recipe.new_order}
    report = convert(file, tmp_path / "run", flags)
    assert report.inferred["scale_shift"] is recipe.scale_shift
    model = scoresde.load(tmp_path / "run").model.double()
    x, k = torch.randn(3, 3, 8, 8, dtype=torch.float64), torch.tensor([0.0, 250.0, 999.0], dtype=torch.float64)
    expected, found = network(w, recipe, x, k), model(x, k / 999)
    says = found.eps if found.learned is None else torch.cat((found.eps, found.learned.raw), 1)
    assert (says - expected).abs().max() < 1e-5 * expected.abs().max()
    assert getattr(found.learned, "kind", None) == ("range" if recipe.outputs == 6 else None)
    assert not report.dropped


def test_flow_matching_of_torchcfm_has_its_data_at_one(tmp_path: Path) -> None:
    recipe = RECIPES["torchcfm"]
    w, file = saved(recipe, tmp_path)
    convert(file, tmp_path / "run", {"image_size": 8, "num_heads": 4}, sde={"_target_": "scoresde.RectifiedSDE"})
    model = scoresde.load(tmp_path / "run").model.double()
    assert isinstance(model.sde, RectifiedSDE)
    x, t = torch.randn(3, 3, 8, 8, dtype=torch.float64), torch.tensor([0.05, 0.5, 0.99], dtype=torch.float64)
    expected = network(w, recipe, x, 1 - t)  # dx/dt toward the data, at their time
    assert (model(x, t).velocity + expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("levels", [1000, 4000])
@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("clean", [False, True])
def test_the_labels_and_the_target_are_those_of_the_options(levels: int, rescaled: bool, clean: bool) -> None:
    """Labels count the levels, or a thousand of them; rates are 0.1 / N to 20 / N; the network may predict x0."""
    options = {"levels": levels, "rescale_timesteps": rescaled, "predict_xstart": clean, "schedule": "cosine"}
    sde, model, negated = _meaning(Facts({key: Given(value, key) for key, value in options.items()}))
    assert (sde["schedule"], sde["levels"], sde["first"], sde["last"]) == ("cosine", levels, 0.1 / levels, 20 / levels)
    assert (model["label"], model["label_shift"], negated) == ("time", 0, False)
    assert model["label_scale"] == pytest.approx((levels - 1) * (1000 / levels if rescaled else 1))
    assert model["precond"] == ("x0" if clean else "eps")
    assert _meaning(Facts({}))[1] == {**model, "label_scale": 999, "precond": "eps"}


def test_the_groups_and_the_factor_of_ncsnpp_are_required() -> None:
    good = {"block_out_channels": (128, 64, 256), "norm_num_groups": 32, "mid_block_scale_factor": 2**0.5}
    _check_ve(good, [128, 256])
    _check_ve({**good, "block_out_channels": (64, 64), "norm_num_groups": 16}, [])
    for wrong in (
        {"block_out_channels": (64, 128, 128)},
        {"block_out_channels": (128, 128, 64)},
        {"norm_num_groups": 16},
        {"mid_block_scale_factor": 1.4},
    ):
        with pytest.raises(InputError, match=r"groups of its norms|mid_block_scale_factor 1\.4"):
            _check_ve({**good, **wrong}, [128])
    with pytest.raises(InputError, match="groups of its norms"):
        _check_ve(good, [64, 128])
