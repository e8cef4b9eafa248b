"""Networks of guided-diffusion, iDDPM and torchcfm become the same function, whatever their heads and norms."""

from pathlib import Path
from typing import Any

import pytest
import torch
from adm_layout import Recipe, network
from score_sde_layout import Weights

import scoresde
from scoresde import RectifiedSDE
from scoresde.convert import convert

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
    expected = network(w, recipe, x, k)[:, :3]
    assert (model(x, k / 999).eps - expected).abs().max() < 1e-5 * expected.abs().max()
    assert len(report.dropped) == (recipe.outputs == 6)


def test_flow_matching_of_torchcfm_has_its_data_at_one(tmp_path: Path) -> None:
    recipe = RECIPES["torchcfm"]
    w, file = saved(recipe, tmp_path)
    convert(file, tmp_path / "run", {"image_size": 8, "num_heads": 4}, sde={"_target_": "scoresde.RectifiedSDE"})
    model = scoresde.load(tmp_path / "run").model.double()
    assert isinstance(model.sde, RectifiedSDE)
    x, t = torch.randn(3, 3, 8, 8, dtype=torch.float64), torch.tensor([0.05, 0.5, 0.99], dtype=torch.float64)
    expected = network(w, recipe, x, 1 - t)  # dx/dt toward the data, at their time
    assert (model(x, t).velocity + expected).abs().max() < 1e-5 * expected.abs().max()
