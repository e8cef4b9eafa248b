"""Networks of independent code under the names of EDM and of guided-diffusion become the same function."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from nets_support import perturbed
from score_sde_layout import PYRAMIDS, Weights, config, network
from torch import Tensor

import scoresde
from scoresde import EDMSDE, InputError
from scoresde.convert import convert

Tensors = dict[str, Tensor]
IN_EDM = {"GroupNorm_0": "norm0", "Conv_0": "conv0", "Dense_0": "affine", "GroupNorm_1": "norm1", "Conv_1": "conv1"}
IN_EDM |= {"Conv_2": "skip"}
SONG = (  # 8x8 and 4x4, one block, attention at 4x4, in the order of computation
    "enc.8x8_conv enc.8x8_block0 enc.4x4_down {side} enc.4x4_block0 + dec.4x4_in0 + dec.4x4_in1 dec.4x4_block0 "
    "dec.4x4_block1 + {end4} dec.8x8_up dec.8x8_block0 dec.8x8_block1 dec.8x8_aux_norm dec.8x8_aux_conv"
)


def interleaved(parts: list[Tensor]) -> Tensor:
    """Rows (channel, q k v)."""
    return torch.stack(parts, 1).flatten(0, 1)


def as_song(w: Weights, fir: bool, fourier: bool, side: str, pyramid: bool) -> Tensors:
    """EDM's names for the tensors of NCSN++ in the order of their modules."""
    named: dict[str, Tensors] = {}
    for key, tensor in w.tensors.items():
        named.setdefault(key.split(".")[1], {})[key.split(".", 2)[2]] = tensor
    end = "dec.4x4_aux_norm dec.4x4_aux_conv" if pyramid else ""
    order = ["map_noise"] * fourier + ["map_layer0", "map_layer1", *SONG.format(side=side, end4=end).split()]
    out: Tensors = {}
    block = ""
    for name, module in zip(order, named.values(), strict=True):
        if name == "map_noise":
            out["map_noise.freqs"] = module["W"]
        elif name == "+":  # the attention of the block before
            for kind, stored in (("weight", "W"), ("bias", "b")):
                four = [module[f"NIN_{i}.{stored}"].movedim(-1, 0) for i in range(4)]
                out[f"{block}.qkv.{kind}"], out[f"{block}.proj.{kind}"] = interleaved(four[:3]), four[3]
                out[f"{block}.norm2.{kind}"] = module[f"GroupNorm_0.{kind}"]
            for part in ("qkv", "proj"):
                out[f"{block}.{part}.weight"] = out[f"{block}.{part}.weight"][:, :, None, None]
        else:
            block = name
            for key, tensor in module.items():
                part, _, kind = key.rpartition(".")
                inner = f"{IN_EDM[part]}." if len(module) > 2 else ""  # a block, or one layer
                out[f"{name}.{inner}{kind}"] = tensor
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0] if fir else [1.0, 1.0])
    kernel = torch.outer(taps, taps)[None, None] / taps.sum() ** 2
    for name in ("enc.4x4_down.conv0", "dec.8x8_up.skip", *(["enc.4x4_aux_down"] if "skip" in side else [])):
        out[f"{name}.resample_filter"] = kernel
    return out


@pytest.mark.parametrize("kind", ["ddpmpp", "ncsnpp", "ncsnpp with pyramids"])
@pytest.mark.parametrize("precond", ["edm", "vp", "ve"])
def test_a_song_unet_is_the_same_denoiser(kind: str, precond: str, tmp_path: Path) -> None:
    fourier = kind != "ddpmpp"
    cfg = config("vesde", **(PYRAMIDS if "pyramids" in kind else {})) if fourier else config("vpsde")
    cfg["data"]["centered"] = True
    side = {"ddpmpp": "", "ncsnpp": "enc.4x4_aux_residual"}.get(kind, "enc.4x4_aux_skip")
    w = Weights(3)
    x, sigma = torch.randn(3, 3, 8, 8, dtype=torch.float64), torch.tensor([0.05, 1.0, 20.0], dtype=torch.float64)
    network(w, cfg, x, sigma)
    torch.save(as_song(w, fourier, fourier, side, "pyramids" in kind), tmp_path / "net.pt")
    convert(tmp_path / "net.pt", tmp_path / "run", {"precond": precond})
    model = scoresde.load(tmp_path / "run").model.double().under(EDMSDE())
    s = sigma.reshape(-1, 1, 1, 1)
    if precond == "edm":  # the formulas of table 1 of arXiv 2206.00364
        d = s**2 + 0.25
        expected = 0.25 / d * x + s * 0.5 / d.sqrt() * network(w, cfg, x / d.sqrt(), sigma.log() / 4)
    elif precond == "vp":
        label = 999 * ((0.1**2 + 2 * 19.9 * (1 + sigma**2).log()).sqrt() - 0.1) / 19.9
        expected = x - s * network(w, cfg, x / (s**2 + 1).sqrt(), label)
    else:
        expected = x + s * network(w, cfg, x, (sigma / 2).log())
    assert (model(x, sigma).x0 - expected).abs().max() < 1e-6 * expected.abs().max()


ADM = {"sample_size": 8, "block_out_channels": (128, 128), "layers_per_block": 1, "norm_eps": 1e-5}
ADM |= {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 32, "num_class_embeds": 4}
ADM |= {"downsample_type": "resnet", "upsample_type": "resnet", "attention_head_dim": 64}
ADM |= {"down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D")}
ADM |= {"up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D")}
PLACES = {  # of diffusers, in guided-diffusion and in EDM's version of it
    "down_blocks.0.resnets.0": ("input_blocks.1.0", "enc.8x8_block0"),
    "down_blocks.0.downsamplers.0": ("input_blocks.2.0", "enc.4x4_down"),
    "down_blocks.1.resnets.0": ("input_blocks.3.0", "enc.4x4_block0"),
    "mid_block.resnets.0": ("middle_block.0", "dec.4x4_in0"),
    "mid_block.resnets.1": ("middle_block.2", "dec.4x4_in1"),
    "up_blocks.0.resnets.0": ("output_blocks.0.0", "dec.4x4_block0"),
    "up_blocks.0.resnets.1": ("output_blocks.1.0", "dec.4x4_block1"),
    "up_blocks.0.upsamplers.0": ("output_blocks.1.2", "dec.8x8_up"),
    "up_blocks.1.resnets.0": ("output_blocks.2.0", "dec.8x8_block0"),
    "up_blocks.1.resnets.1": ("output_blocks.3.0", "dec.8x8_block1"),
    "down_blocks.1.attentions.0": ("input_blocks.3.1", "enc.4x4_block0"),
    "mid_block.attentions.0": ("middle_block.1", "dec.4x4_in0"),
    "up_blocks.0.attentions.0": ("output_blocks.0.1", "dec.4x4_block0"),
    "up_blocks.0.attentions.1": ("output_blocks.1.1", "dec.4x4_block1"),
    "time_embedding.linear_1": ("time_embed.0", "map_layer0"),
    "time_embedding.linear_2": ("time_embed.2", "map_layer1"),
    "class_embedding": ("label_emb", "map_label"),
    "conv_in": ("input_blocks.0.0", "enc.8x8_conv"),
    "conv_norm_out": ("out.0", "out_norm"),
    "conv_out": ("out.2", "out_conv"),
}
INSIDE = {
    "norm1": ("in_layers.0", "norm0"),
    "conv1": ("in_layers.2", "conv0"),
    "time_emb_proj": ("emb_layers.1", "affine"),
    "norm2": ("out_layers.0", "norm1"),
    "conv2": ("out_layers.3", "conv1"),
    "conv_shortcut": ("skip_connection", "skip"),
    "group_norm": ("norm", "norm2"),
    "to_out.0": ("proj_out", "proj"),
}


def renamed(state: Tensors, which: int) -> Tensors:
    """The tensors of a UNet2DModel under the names of guided-diffusion (0) or of EDM (1)."""
    out: Tensors = {}
    for key, tensor in state.items():
        place = next(p for p in PLACES if key.startswith(p + "."))
        inside, _, kind = key.removeprefix(place + ".").rpartition(".")
        here = PLACES[place][which]
        if inside in ("to_k", "to_v"):
            continue
        if inside == "to_q":
            parts = [state[f"{place}.{p}.{kind}"] for p in ("to_q", "to_k", "to_v")]
            heads = [torch.stack([p.unflatten(0, (-1, 64)) for p in parts], 1).flatten(0, 2), interleaved(parts)]
            name, tensor = f"{here}.qkv.{kind}", heads[which]
        else:
            name = ".".join(filter(None, (here, inside and INSIDE[inside][which], kind)))
        if kind == "weight" and inside in ("to_q", "to_out.0"):
            tensor = tensor.reshape(*tensor.shape, *(1,) * (1 + which))
        out[name] = tensor.T if name == "map_label.weight" else tensor
    return out


@pytest.fixture(scope="module")
def adm() -> Any:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is installed with the extra dev")
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(**ADM).eval().requires_grad_(False)
    return perturbed(net, torch.Generator().manual_seed(1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("variance", [False, True])
def test_an_adm_of_guided_diffusion_is_the_same_function(adm: Any, variance: bool, tmp_path: Path) -> None:
    tensors = renamed(adm.state_dict(), 0)
    if variance:  # which it predicts in further channels
        for kind in ("weight", "bias"):
            tensors[f"out.2.{kind}"] = torch.cat((tensors[f"out.2.{kind}"], torch.randn_like(tensors[f"out.2.{kind}"])))
    torch.save(tensors, tmp_path / "net.pt")
    report = convert(tmp_path / "net.pt", tmp_path / "run", {"num_head_channels": 64, "image_size": 8})
    assert not report.dropped
    model = scoresde.load(tmp_path / "run").model
    assert (model.variance == "range") is variance
    x, k, classes = torch.randn(3, 3, 8, 8), torch.tensor([0, 250, 999]), torch.tensor([3, 0, 2])
    expected = adm(x, k, classes).sample
    assert (model(x, k.double() / 999, classes).eps - expected).abs().max() < 1e-5 * expected.abs().max()
    with pytest.raises(InputError, match="head_width: cannot be inferred from the weights"):
        convert(tmp_path / "net.pt", tmp_path / "other", size=8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_an_adm_of_edm_is_the_same_denoiser(adm: Any, tmp_path: Path) -> None:
    """With a linear layer over (one-hot) classes in place of an embedding, and none of them where there is no class."""
    torch.save({f"model.{k}": t for k, t in renamed(adm.state_dict(), 1).items()}, tmp_path / "net.pt")
    convert(tmp_path / "net.pt", tmp_path / "run")
    model = scoresde.load(tmp_path / "run").model
    x, classes, sigma = torch.randn(3, 3, 8, 8), torch.tensor([3, 0, 2]), torch.tensor([0.1, 2.0, 30.0])
    s = sigma.reshape(-1, 1, 1, 1)
    d = s**2 + 0.25
    expected = 0.25 / d * x + s * 0.5 / d.sqrt() * adm(x / d.sqrt(), sigma.log() / 4, classes).sample
    assert (model(x, sigma, classes).x0 - expected).abs().max() < 1e-5 * expected.abs().max()
    adm.class_embedding.weight.data, kept = torch.zeros(4, 512), adm.class_embedding.weight.data
    unconditional = 0.25 / d * x + s * 0.5 / d.sqrt() * adm(x / d.sqrt(), sigma.log() / 4, classes).sample
    adm.class_embedding.weight.data = kept
    assert (model(x, sigma).x0 - unconditional).abs().max() < 1e-5 * unconditional.abs().max()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_preconditioning_of_iddpm_in_edm_files_is_exact_at_its_levels(adm: Any, tmp_path: Path) -> None:
    """Equations of table 1 of arXiv 2206.00364, with the levels of a short chain and a learned variance."""
    number, u = 50, torch.zeros(51)
    bar = torch.sin(0.5 * math.pi * torch.arange(51) / number / 1.008) ** 2
    for j in range(number, 0, -1):
        u[j - 1] = ((u[j] ** 2 + 1) / (bar[j - 1] / bar[j]).clamp(min=0.001) - 1).sqrt()
    tensors = {f"model.{k}": t for k, t in renamed(adm.state_dict(), 1).items()} | {"u": u}
    for kind in ("weight", "bias"):
        last = tensors[f"model.out_conv.{kind}"]
        tensors[f"model.out_conv.{kind}"] = torch.cat((last, torch.randn_like(last)))
    torch.save(tensors, tmp_path / "net.pt")
    report = convert(tmp_path / "net.pt", tmp_path / "run")
    assert "the predicted variance is not used" in report.dropped.values()
    model = scoresde.load(tmp_path / "run").model.under(EDMSDE(1e-4, 1e5))
    j, classes, x = torch.tensor([2, 20, 49]), torch.tensor([3, 0, 2]), torch.randn(3, 3, 8, 8)
    sigma = u[j].reshape(-1, 1, 1, 1)
    expected = x - sigma * adm(x / (sigma**2 + 1).sqrt(), number - 1 - j, classes).sample
    assert (model(x, u[j].double(), classes).x0 - expected).abs().max() < 1e-5 * expected.abs().max()
