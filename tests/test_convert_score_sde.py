"""Checkpoints of score_sde_pytorch become the same score, and wrong ones are refused in one line."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from score_sde_layout import PYRAMIDS, Config, Weights, checkpoint, config, network
from torch import Tensor

import scoresde
from scoresde import EDMSDE, DiscreteVPSDE, InputError
from scoresde.convert import convert
from scoresde.convert.files import read_file
from scoresde.convert.score_sde import ScoreSDE

DDPM = {"name": "ddpm", "nf": 32, "embedding_type": "positional"}
CASES: dict[str, Config] = {
    "ncsnpp": config("vesde"),
    "ncsnpp with pyramids": config("vesde", **PYRAMIDS, ch_mult=[1, 1, 2]),
    "ncsnpp with pyramids side by side": config("vesde", **PYRAMIDS, progressive_combine="cat"),
    "ncsnpp, two blocks, attention at two levels": config("vesde", num_res_blocks=2, attn_resolutions=[8, 4]),
    "ncsnpp, no rescaling, score as it is": config("vesde", skip_rescale=False, scale_by_sigma=False),
    "ncsnpp of numbered levels": config("vesde", continuous=False, embedding_type="positional"),
    "ncsnpp of ddpm blocks": config("vesde", resblock_type="ddpm", fir=False),
    "one level": config("vesde", ch_mult=[2], attn_resolutions=[]),
    "ddpmpp": config("vpsde"),
    "ddpmpp, subvp": config("subvpsde"),
    "ddpmpp of numbered levels": config("vpsde", continuous=False),
    "ncsnpp, vp": config("vpsde", fir=True, progressive_input="residual"),
    "fourier, vp": config("vpsde", embedding_type="fourier"),
    "fourier, subvp": config("subvpsde", embedding_type="fourier", fir=True, progressive_input="residual"),
    "ddpm of numbered levels": config("vpsde", continuous=False, **DDPM),
    "ddpm without convolutions": config("vpsde", resamp_with_conv=False, **DDPM),
}


def saved(tmp_path: Path, cfg: Config, change: Any = None) -> tuple[Path, Weights, Weights]:
    content, raw, average = checkpoint(cfg)
    if change is not None:
        change(content)
    torch.save(content, tmp_path / "checkpoint.pth")
    (tmp_path / "config.json").write_text(json.dumps(cfg))
    return tmp_path / "checkpoint.pth", raw, average


def original_score(w: Weights, cfg: Config, x: Tensor, t: Tensor) -> Tensor:
    """As the original makes it of the network's output at time t."""
    m, shape = cfg["model"], (-1, 1, 1, 1)
    last = m["num_scales"] - 1
    if cfg["training"]["sde"] == "vesde":
        sigma = m["sigma_min"] * (m["sigma_max"] / m["sigma_min"]) ** t
        label = sigma.log() if cfg["training"]["continuous"] else torch.round((1 - t) * last)
        return network(w, cfg, x, label) / (sigma.reshape(shape) if m["scale_by_sigma"] else 1)
    if not cfg["training"]["continuous"]:
        betas = torch.linspace(m["beta_min"] / (last + 1), m["beta_max"] / (last + 1), last + 1, dtype=torch.float64)
        sigma = (1 - (1 - betas).cumprod(0)).sqrt()[torch.round(t * last).long()]
        return -network(w, cfg, x, t * last) / sigma.reshape(shape)
    decay = torch.exp(-0.5 * t**2 * (m["beta_max"] - m["beta_min"]) - t * m["beta_min"])
    sigma = 1 - decay if cfg["training"]["sde"] == "subvpsde" else (1 - decay).sqrt()
    label = (999 * t).log() if m["embedding_type"] == "fourier" else 999 * t
    return -network(w, cfg, x, label) / sigma.reshape(shape)


@pytest.mark.parametrize("case", CASES)
def test_the_score_is_that_of_the_original(case: str, tmp_path: Path) -> None:
    cfg = CASES[case]
    path, raw, average = saved(tmp_path, cfg)
    report = convert(path, tmp_path / "run", tmp_path / "config.json")
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    t = torch.tensor([7.0, 40.0, 99.0], dtype=torch.float64) / 99
    for which, weights in (("ema", average), ("raw", raw)):
        model = scoresde.load(tmp_path / "run", weights=which).model.double()  # type: ignore[arg-type]
        expected = original_score(weights, cfg, x, t)
        assert (model(x, t).score - expected).abs().max() < 1e-6 * expected.abs().max()
    assert report.weights == "ema"
    assert report.beside == {"step": 1234, "decay": 0.999, "num_updates": 77}


def test_raw_weights_on_request(tmp_path: Path) -> None:
    path, raw, average = saved(tmp_path, CASES["ddpmpp"])
    convert(path, tmp_path / "run", CASES["ddpmpp"], weights="raw")
    x, t = torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0.2, 0.9], dtype=torch.float64)
    score = scoresde.load(tmp_path / "run").model.double()(x, t).score
    assert torch.allclose(score, original_score(raw, CASES["ddpmpp"], x, t), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(score, original_score(average, CASES["ddpmpp"], x, t), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("case", ["ncsnpp with pyramids", "ddpmpp of numbered levels"])
def test_what_no_shape_tells_may_come_from_our_own_settings(case: str, tmp_path: Path) -> None:
    cfg = CASES[case]
    path, _, average = saved(tmp_path, cfg)
    ve = cfg["training"]["sde"] == "vesde"
    sde: dict[str, Any] = {"_target_": "scoresde.VESDE" if ve else "scoresde.VPSDE", "sigma_max": "measured"}
    net = {"_target_": "scoresde.nets.NCSNpp", "channels": 128, "fir": ve, "rescale": True, "group_width": 4}
    extra = {} if ve else {"training": {"continuous": False}}
    report = convert(path, tmp_path / "run", extra, size=8, sde=sde, model={"net": net})
    assert report.inferred["channels"] == 8  # and not the 128 of a preset
    assert report.inferred["sigma_max"] == 50.0
    assert report.given["fir"] is ve
    assert report.assumed["centered"] is not ve
    x, t = torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.tensor([30.0, 60.0], dtype=torch.float64) / 99
    score, expected = scoresde.load(tmp_path / "run").model.double()(x, t).score, original_score(average, cfg, x, t)
    assert (score - expected).abs().max() < 1e-6 * expected.abs().max()


def test_under_another_sde_the_noise_is_the_same_at_the_same_level(tmp_path: Path) -> None:
    """x / alpha and sigma / alpha say all that there is to say of a level."""
    for case in ("ddpmpp, subvp", "ncsnpp"):
        path, _, _ = saved(tmp_path, CASES[case])
        convert(path, tmp_path / case, CASES[case])
        own = scoresde.load(tmp_path / case).model.double()
        other = own.under(EDMSDE())
        level = own.sde.at(0.4)
        x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
        ours, theirs = own(level.alpha * x, 0.4), other(x, math.exp(-level.lam))
        assert torch.allclose(ours.eps, theirs.eps, rtol=1e-9, atol=1e-9)
        assert torch.allclose(ours.x0, theirs.x0, rtol=1e-9, atol=1e-9)
        batched = other(x, torch.full((2,), math.exp(-level.lam)))
        assert torch.allclose(batched.eps, theirs.eps, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "cosine"])
def test_numbered_levels_are_those_of_diffusers(schedule: str) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is installed with the extra dev")
    name = {"cosine": "squaredcos_cap_v2"}.get(schedule, schedule)
    theirs = diffusers.DDPMScheduler(300, beta_start=2e-4, beta_end=0.05, beta_schedule=name).alphas_cumprod.double()
    sde = DiscreteVPSDE(schedule, 300, 2e-4, 0.05)  # type: ignore[arg-type]
    t = torch.arange(300, dtype=torch.float64) / 299
    assert torch.allclose(sde.alpha(t) ** 2, theirs, rtol=1e-4, atol=1e-7)  # theirs are of single precision
    fine = torch.linspace(1e-5, 1, 2000, dtype=torch.float64)
    assert (sde.lam(fine).diff() < 0).all()
    assert torch.allclose(sde.t_of_lam(sde.lam(fine)), fine, atol=1e-9)
    assert torch.allclose(
        sde.alpha(fine) ** 2 + sde.sigma(fine) ** 2, torch.ones(2000, dtype=torch.float64), atol=1e-12
    )


def refused(tmp_path: Path, cfg: Any, change: Any = None, **options: Any) -> str:
    """The one line with which a conversion is refused; nothing is left behind."""
    own = options.pop("own", config("vesde"))
    path, _, _ = saved(tmp_path, own, change)
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError) as caught:
        convert(path, tmp_path / "run", cfg, **options)
    assert set(tmp_path.iterdir()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("model", "nf", 16, ("config model.nf: 16", "8")),
        ("model", "ch_mult", [1, 2, 2], ("config model.ch_mult: [1, 2, 2]", "[1, 2]")),
        ("model", "num_res_blocks", 4, ("config model.num_res_blocks: 4", "1")),
        ("model", "attn_resolutions", [8], ("config model.attn_resolutions: [8]", "[4]")),
        ("model", "embedding_type", "positional", ("config model.embedding_type: 'positional'", "'fourier'")),
        ("model", "progressive_input", "input_skip", ("config model.progressive_input: 'input_skip'", "'residual'")),
        ("model", "sigma_max", 348, ("config model.sigma_max: 348", "50")),
        ("model", "fir_kernel", [1, 2, 1], ("config model.fir_kernel: [1, 2, 1]", "[1, 3, 3, 1]")),
        ("model", "nonlinearity", "elu", ("config model.nonlinearity: 'elu'", "swish")),
        ("data", "num_channels", 1, ("config data.num_channels: 1", "3")),
        ("data", "image_size", 32, ("config model.attn_resolutions: [4]", "[16]")),
        ("training", "sde", "cosine", ("sde: 'cosine'", "ve, vp or subvp")),
        ("training", "continuous", False, ("continuous: False", "fourier")),
    ],
)
def test_a_configuration_that_the_weights_contradict_is_refused(
    section: str, key: str, value: Any, words: tuple[str, ...], tmp_path: Path
) -> None:
    cfg = config("vesde")
    cfg[section][key] = value
    message = refused(tmp_path, cfg)
    assert all(word in message for word in words), message


def test_what_cannot_be_known_is_asked_for(tmp_path: Path) -> None:
    full = config("vpsde")
    for missing, words in (
        ("size", "image_size: cannot be inferred from the weights"),
        ("fir", "fir: cannot be inferred from the weights"),
    ):
        cfg = {"training": full["training"], "data": dict(full["data"]), "model": dict(full["model"])}
        cfg["data" if missing == "size" else "model"].pop("image_size" if missing == "size" else "fir")
        assert words in refused(tmp_path, cfg, own=full)
    assert "sde: cannot be inferred from the weights" in refused(tmp_path, {**full, "training": {}}, own=full)


def test_missing_and_surplus_tensors_are_listed(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        names = [k for k in content["model"] if k.endswith("Conv_1.bias") or k.endswith("GroupNorm_1.bias")]
        for name in names:
            content["model"][f"{name}_old"] = content["model"].pop(name)
        content["ema"] = None

    message = refused(tmp_path, config("vesde"), change)
    assert "20 missing (all_modules.4.GroupNorm_1.bias" in message
    assert "20 left over (all_modules.4.GroupNorm_1.bias_old" in message
    assert message.count("_old") == 10


@pytest.mark.parametrize("key", ["all_modules.3.weight", "all_modules.5.Conv_0.weight", "all_modules.0.W"])
@pytest.mark.parametrize("way", ["left out", "flat"])
def test_a_file_that_is_not_whole_is_refused_in_one_line(key: str, way: str, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        tensor = content["model"].pop(f"module.{key}")
        if way == "flat":
            content["model"][f"module.{key}"] = tensor.reshape(1, -1)
        content["ema"] = None

    assert refused(tmp_path, config("vesde"), change).startswith(("file: ", "checkpoint: ", "config model."))


def test_averages_of_another_network_are_refused(tmp_path: Path) -> None:
    def fewer(content: dict[str, Any]) -> None:
        content["ema"]["shadow_params"].pop()

    def turned(content: dict[str, Any]) -> None:
        content["ema"]["shadow_params"].reverse()

    assert "ema.shadow_params holds" in refused(tmp_path, config("vesde"), fewer)
    assert "ema.shadow_params has" in refused(tmp_path, config("vesde"), turned)


def test_averages_are_named_in_the_order_of_parameters(tmp_path: Path) -> None:
    path, _, average = saved(tmp_path, config("vesde"))
    found = ScoreSDE().averages(read_file(path))
    assert found is not None
    assert list(found)[2:] == list(average.tensors)[1:]
    assert all(torch.equal(found[k], t) for k, t in average.tensors.items())
