"""The same seed gives the same weights, and the same weights the same outputs, as at commit d14582e."""

import json
from pathlib import Path

import pytest
import torch
from networks_reference import values
from training_reference import CASES, weights

FIXTURES = Path(__file__).parent / "fixtures"
TRAININGS = json.loads((FIXTURES / "training_reference.json").read_text())
NETWORKS = json.loads((FIXTURES / "networks_reference.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_a_training_ends_in_the_weights_that_it_always_did(case: str, tmp_path: Path) -> None:
    expected, found = TRAININGS[case], weights(case, tmp_path)
    assert len(found) == expected["size"]
    assert float(found.double().norm()) == pytest.approx(expected["norm"], rel=1e-6)
    some = found[:: max(1, len(found) // 24)]
    torch.testing.assert_close(some, torch.tensor(expected["some"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_made_and_computes_as_it_always_did(name: str) -> None:
    case, _, kind = name.rpartition(" ")
    assert values(case, None if kind == "None" else kind) == pytest.approx(NETWORKS[name], rel=1e-9)
