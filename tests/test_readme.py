"""The README's Python runs as it stands there; its commands and links are checked by test_docs."""

import re
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_it_is_short():
    assert len(README.splitlines()) < 150


def test_first_example_draws_samples():
    assert len(BLOCKS[0].strip().splitlines()) < 10
    names = {}
    exec(BLOCKS[0], names)
    result = names["result"]
    assert result.nfe == 30
    torch.testing.assert_close(result.x.mean(0), torch.tensor([0.1, 0.7]), atol=0.15, rtol=0)


def test_training_takes_less_than_ten_lines(tmp_path, monkeypatch):
    assert len(BLOCKS[1].strip().splitlines()) < 10
    monkeypatch.chdir(tmp_path)
    exec(BLOCKS[1], {})
    assert list((tmp_path / "runs").glob("*/config.yaml"))


def test_a_posterior_takes_five_lines():
    names, lines = {}, [line for line in BLOCKS[2].splitlines() if line]
    assert len(lines) <= 5
    exec(BLOCKS[0], names)
    lines[-1] = lines[-1].replace("print(", "mean = (")
    exec("\n".join(lines), names)
    torch.testing.assert_close(names["mean"].float(), torch.tensor([0.9, 1.0]), atol=0.15, rtol=0)


def test_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
