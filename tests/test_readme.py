"""The README's Python runs as it stands there, and its commands name things that exist."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_first_example_draws_samples():
    assert len(BLOCKS[0].strip().splitlines()) < 10
    names = {}
    exec(BLOCKS[0], names)
    result = names["result"]
    assert result.nfe == 30
    torch.testing.assert_close(result.x.mean(0), torch.tensor([0.1, 0.7]), atol=0.15, rtol=0)


def test_own_sde_is_one():
    names = {}
    exec(BLOCKS[1], names)
    sde = names["OrnsteinUhlenbeck"]()
    assert float(sde.f(1.0)) == pytest.approx(-0.5)
