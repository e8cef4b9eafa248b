"""Networks of denoising-diffusion-pytorch become the same function, with the chain and the objective of their files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from denoising_diffusion_layout import Recipe, chain, network, rates
from score_sde_layout import Weights
from torch import Tensor

import scoresde
from scoresde import EDMSDE, InputError
from scoresde.convert import convert

OTHER = Recipe(stem=12, mults=(1, 3, 2), full=(True, False, True), heads=(2, 1, 3), head=(4, 8, 6))
X = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def weights(recipe: Recipe, seed: int = 3) -> Weights:
    w = Weights(seed)
    network(w, recipe, torch.zeros(1, recipe.inputs, 8, 8).double() + 1, torch.zeros(1).double())
    return w


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() < 1e-5 * b.abs().max())


CHAINS = [("linear", "pred_noise"), ("linear", "pred_v"), ("cosine", "pred_x0"), ("sigmoid", "pred_v")]


@pytest.mark.parametrize(("schedule", "objective"), CHAINS)
def test_a_checkpoint_of_the_trainer_says_all_but_the_size(schedule: str, objective: str, tmp_path: Path) -> None:
    recipe, levels = OTHER if schedule == "cosine" else Recipe(), 100
    raw, averaged, tables = weights(recipe), weights(recipe, 4), chain(schedule, levels, objective, 5.0)
    model, average = ({f"model.{k}": t for k, t in w.tensors.items()} | tables for w in (raw, averaged))
    ema = {f"online_model.{k}": t for k, t in model.items()} | {f"ema_model.{k}": t for k, t in average.items()}
    ema |= {"initted": torch.tensor(True), "step": torch.tensor(11)}
    saved = {"step": 7, "model": model, "opt": {}, "ema": ema, "scaler": None, "version": "2.3.4"}
    torch.save(saved, tmp_path / "model-1.pt")
    k = torch.tensor([0.0, 20.0, 60.0, levels - 2.0], dtype=torch.float64)
    alpha2 = torch.cumprod(1 - rates(schedule, levels), 0)[k.long(), None, None, None]
    for kind, w in (("ema", averaged), ("raw", raw)):
        report = convert(tmp_path / "model-1.pt", tmp_path / kind, size=8, weights=kind)
        assert report.layout == "denoising_diffusion"
        assert report.inferred["objective"] == objective
        assert report.inferred["levels"] == levels
        assert report.beside["step"] == 7
        expected = network(w, recipe, X, k)
        if objective == "pred_noise":
            x0 = (X - (1 - alpha2).sqrt() * expected) / alpha2.sqrt()
        elif objective == "pred_v":
            x0 = alpha2.sqrt() * X - (1 - alpha2).sqrt() * expected
        else:
            x0 = expected
        prediction = scoresde.load(tmp_path / kind).model.double()(X, k / (levels - 1))
        assert close(prediction.x0, x0)


def test_a_state_dict_alone_needs_its_objective_and_its_schedule(tmp_path: Path) -> None:
    w = weights(Recipe())
    torch.save(w.tensors, tmp_path / "net.pt")
    refused: list[tuple[dict[str, Any], str]] = [
        ({}, "objective: .* config= with objective: pred_noise"),
        ({"objective": "pred_y"}, "config objective: 'pred_y'"),
        ({"objective": "pred_v"}, "schedule: .* config= with beta_schedule: linear"),
        ({"objective": "pred_v", "beta_schedule": "sine"}, "config beta_schedule: 'sine'"),
        ({"objective": "pred_v", "dim": 64}, "config dim: 64 was given, but by the weights it is 8"),
    ]
    for config, message in refused:
        with pytest.raises(InputError, match=f"^{message}"):
            convert(tmp_path / "net.pt", tmp_path / "run", config, size=8)
    given = {"objective": "pred_noise", "beta_schedule": "sigmoid", "timesteps": 50, "image_size": 8}
    convert(tmp_path / "net.pt", tmp_path / "run", given)
    model, k = scoresde.load(tmp_path / "run").model.double(), torch.tensor([0.0, 7.0, 30.0, 49.0], dtype=torch.float64)
    assert close(model(X, k / 49).eps, network(w, Recipe(), X, k))
    alpha = torch.cumprod(1 - rates("sigmoid", 50), 0)[[0, 7, 30, 49]].sqrt()
    assert torch.allclose(model.sde.alpha(k / 49), alpha, rtol=1e-9)


def test_features_that_were_learned_have_log_snr_as_label_or_that_of_edm(tmp_path: Path) -> None:
    recipe = Recipe(learned=10)
    w = weights(recipe)
    torch.save({"step": 1, "model": {f"net.{k}": t for k, t in w.tensors.items()}}, tmp_path / "net.pt")
    convert(tmp_path / "net.pt", tmp_path / "continuous", {"objective": "pred_v"}, size=8)
    model, t = scoresde.load(tmp_path / "continuous").model.double(), torch.tensor([0.01, 0.3, 0.6, 1.0]).double()
    assert close(model(X, t).v, network(w, recipe, X, 2 * model.levels(t)[2]))
    convert(tmp_path / "net.pt", tmp_path / "edm", {}, size=8, sde={"_target_": "scoresde.EDMSDE"})
    model, sigma = scoresde.load(tmp_path / "edm").model.double(), torch.tensor([0.01, 0.5, 3.0, 80.0]).double()
    assert isinstance(model.sde, EDMSDE)
    s = sigma[:, None, None, None]
    size = (s**2 + 0.25).sqrt()
    output = network(w, recipe, X * s / size, sigma.log() / 4)
    assert close(model(X * s, sigma).x0, 0.25 / size**2 * X * s + s * 0.5 / size * output)


@pytest.mark.parametrize("own", [False, True])
def test_variance_is_dropped_and_the_own_prediction_is_left_out(own: bool, tmp_path: Path) -> None:
    recipe = Recipe(inputs=6) if own else Recipe(outputs=6)
    w = weights(recipe)
    torch.save(w.tensors, tmp_path / "net.pt")
    report = convert(tmp_path / "net.pt", tmp_path / "run", {"objective": "pred_x0", "beta_schedule": "linear"}, size=8)
    assert ("last prediction" in "".join(report.notes), bool(report.dropped)) == (own, not own)
    model, k = scoresde.load(tmp_path / "run").model.double(), torch.tensor([0.0, 250.0, 500.0, 999.0]).double()
    expected = network(w, recipe, torch.cat((torch.zeros_like(X), X), 1) if own else X, k)[:, :3]
    assert close(model(X, k / 999).x0, expected)
    alpha = torch.cumprod(1 - rates("linear", 1000), 0)[k.long()].sqrt()
    assert torch.allclose(model.sde.alpha(k / 999), alpha, rtol=1e-9)


def test_other_networks_of_the_package_are_refused(tmp_path: Path) -> None:
    config, w = {"objective": "pred_x0", "beta_schedule": "linear"}, weights(Recipe(outputs=8))
    torch.save(w.tensors, tmp_path / "weighted.pt")
    with pytest.raises(InputError, match=r"^file: 3 channels in and 8 out; .*not supported"):
        convert(tmp_path / "weighted.pt", tmp_path / "run", config, size=8)
    old = {k: t for k, t in weights(Recipe()).tensors.items() if "mem_kv" not in k}
    torch.save(old, tmp_path / "old.pt")
    with pytest.raises(InputError, match=r"has no downs\.0\.2\.mem_kv: incomplete or of another layout"):
        convert(tmp_path / "old.pt", tmp_path / "run", config, size=8)
    assert not (tmp_path / "run").exists()
