"""The table of parameter counts in docs/networks.md is what the networks have, and what the papers say."""

from pathlib import Path

import pytest
import torch
import yaml
from denoising_diffusion_layout import Recipe, network
from score_sde_layout import Weights

from scoresde.build import build
from scoresde.nets import RMSUNet

ROOT = Path(__file__).parents[1]
CHAINS = ("gaussian_chain", "bits", "bits_unet")  # around networks of the table
CELLS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "networks.md").read_text().splitlines()
    if line.startswith("| ") and line.count("|") == 8 and "`model=`" not in line
]


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_the_table_is_there() -> None:
    assert len(CELLS) > 15
    models = {p.stem for p in (ROOT / "conf" / "model").glob("*.yaml")} - {"custom", *CHAINS}
    assert {row[1].strip("`") for row in CELLS} == models


@pytest.mark.parametrize("row", CELLS, ids=lambda row: row[0])
def test_parameters_are_as_many_as_the_table_says(row: list[str]) -> None:
    _, model, settings, event, classes, parameters, published = row
    net = yaml.safe_load((ROOT / "conf" / "model" / f"{model.strip('`')}.yaml").read_text())["net"]
    net |= {
        key: yaml.safe_load(value) for key, _, value in (s.partition("=") for s in settings.replace("`", "").split())
    }
    if classes:
        net |= {"condition": "class", "condition_size": number(classes)}
    with torch.device("meta"):
        made = build(net, event_shape=tuple(int(n) for n in event.split("x")))
    count = sum(p.numel() for p in made.parameters())
    assert count == number(parameters)
    if published:
        assert abs(count - float(published.removesuffix(" M").replace(",", "")) * 1e6) < 0.6e6


def test_the_network_of_denoising_diffusion_has_the_defaults_of_the_original() -> None:
    weights, zero = Weights(), torch.zeros(1, dtype=torch.float64)
    original = Recipe(64, 64, (1, 2, 4, 8), (False, False, False, True), (4,) * 4, (32,) * 4)
    with torch.no_grad():
        network(weights, original, zero.expand(1, 3, 8, 8), zero)
    with torch.device("meta"):
        ours = RMSUNet((3, 8, 8))
    counts = [sum(t.numel() for t in tensors) for tensors in (ours.parameters(), weights.tensors.values())]
    assert counts == [35_711_491] * 2
