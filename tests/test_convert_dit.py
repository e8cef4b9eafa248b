"""Diffusion transformers of the original, of SiT and of diffusers become the same function."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from nets_support import perturbed
from score_sde_layout import Weights, conv, linear
from torch import Tensor
from torch.nn import functional

import scoresde
from scoresde import InputError, RectifiedSDE
from scoresde.convert import convert

WIDTH, HEADS, CLASSES, CHANNELS, SIDE = 32, 4, 5, 4, 4


def positions() -> Tensor:
    """Sines and cosines of the column and then of the row, of each place of a square."""
    omega = 10000.0 ** (-torch.arange(WIDTH // 4, dtype=torch.float64) / (WIDTH // 4))
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    halves = [torch.cat((a.sin(), a.cos()), 1) for a in (columns.reshape(-1, 1) * omega, rows.reshape(-1, 1) * omega)]
    return torch.cat(halves, 1)


def original(w: Weights, x: Tensor, label: Tensor, classes: Tensor) -> Tensor:
    """Both halves of the output, written from arXiv 2212.09748, section 3."""
    angles = label[:, None] * torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float64) / 128)
    e = linear(w, "t_embedder.mlp.0", torch.cat((angles.cos(), angles.sin()), 1), WIDTH)
    e = linear(w, "t_embedder.mlp.2", functional.silu(e), WIDTH)
    said = functional.silu(e + w("y_embedder.embedding_table.weight", CLASSES + 1, WIDTH)[classes])

    def pieces(name: str, n: int) -> list[Tensor]:
        return [piece[:, None] for piece in linear(w, f"{name}.adaLN_modulation.1", said, n * WIDTH).chunk(n, 1)]

    def scaled(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return functional.layer_norm(h, (WIDTH,), eps=1e-6) * (1 + scale) + shift

    h = conv(w, "x_embedder.proj", x, WIDTH, 2, stride=2, padding=0).flatten(2).transpose(1, 2) + positions()
    for i in range(2):
        name = f"blocks.{i}"
        shift1, scale1, gate1, shift2, scale2, gate2 = pieces(name, 6)
        qkv = linear(w, f"{name}.attn.qkv", scaled(h, shift1, scale1), 3 * WIDTH)
        q, k, v = qkv.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS)).softmax(3)
        h = h + gate1 * linear(w, f"{name}.attn.proj", (weights @ v).transpose(1, 2).flatten(2), WIDTH)
        y = functional.gelu(linear(w, f"{name}.mlp.fc1", scaled(h, shift2, scale2), 4 * WIDTH), approximate="tanh")
        h = h + gate2 * linear(w, f"{name}.mlp.fc2", y, WIDTH)
    out = linear(w, "final_layer.linear", scaled(h, *pieces("final_layer", 2)), 8 * CHANNELS)
    return out.reshape(-1, SIDE, SIDE, 2, 2, 2 * CHANNELS).permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(3, CHANNELS, 8, 8, dtype=torch.float64), torch.tensor([4, 0, CLASSES])


@pytest.mark.parametrize("kind", ["dit", "sit"])
def test_a_transformer_of_the_original_is_the_same_function(kind: str, tmp_path: Path) -> None:
    w, (x, classes) = Weights(1), batch()
    t = torch.tensor([0.02, 0.4, 0.9], dtype=torch.float64)
    label = 999 * t if kind == "dit" else 1 - t
    expected = original(w, x, label, classes)
    torch.save({**w.tensors, "pos_embed": positions().float()[None]}, tmp_path / "net.pt")
    sde = None if kind == "dit" else {"_target_": "scoresde.RectifiedSDE"}
    report = convert(tmp_path / "net.pt", tmp_path / "run", {"num_heads": HEADS}, sde=sde)
    assert report.inferred["condition_size"] == CLASSES
    assert ("the predicted variance is not used" in report.dropped.values()) is (kind == "sit")
    assert "latents" in report.notes[-1]
    run = scoresde.load(tmp_path / "run")
    model = scoresde.load(tmp_path / "run").model.double()
    assert model.variance == ("range" if kind == "dit" else "fixed")
    for i in range(3):  # the last of their classes is no class
        cond = None if classes[i] == CLASSES else classes[i : i + 1]
        here = model(x[i : i + 1], t[i : i + 1], cond)
        found = -here.velocity[0] if here.learned is None else torch.cat((here.eps[0], here.learned.raw[0]))
        assert (found - expected[i][: len(found)]).abs().max() < 1e-5 * expected.abs().max()
    assert run.sample(2, steps=2).data.shape == (2, CHANNELS, 8, 8)


def test_what_the_weights_do_not_say_is_asked_for(tmp_path: Path) -> None:
    w, (x, classes) = Weights(1), batch()
    original(w, x, torch.ones(3, dtype=torch.float64), classes)
    torch.save(w.tensors, tmp_path / "net.pt")
    with pytest.raises(InputError, match="heads: cannot be inferred from the weights; give config= with num_heads"):
        convert(tmp_path / "net.pt", tmp_path / "run", size=8)
    torch.save({**w.tensors, "pos_embed": torch.randn(1, 16, WIDTH)}, tmp_path / "net.pt")
    with pytest.raises(InputError, match="pos_embed are no sines and cosines"):
        convert(tmp_path / "net.pt", tmp_path / "run", {"num_heads": HEADS})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["ddim", "flow", "own embeddings"])
def test_a_transformer_of_diffusers_is_the_same_function(kind: str, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is installed with the extra dev")
    torch.manual_seed(0)
    options: dict[str, Any] = {"num_attention_heads": HEADS, "attention_head_dim": WIDTH // HEADS, "num_layers": 2}
    options |= {"in_channels": CHANNELS, "out_channels": 2 * CHANNELS, "sample_size": 8, "num_embeds_ada_norm": CLASSES}
    net = diffusers.DiTTransformer2DModel(**options).eval().requires_grad_(False)
    perturbed(net, torch.Generator().manual_seed(1))
    if kind != "own embeddings":
        first, second = (block.norm1.emb for block in net.transformer_blocks)
        second.load_state_dict(first.state_dict())
    net.save_pretrained(tmp_path / "transformer")
    flows = kind == "flow"
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler() if flows else diffusers.DDIMScheduler()
    scheduler.save_pretrained(tmp_path / "scheduler")
    if kind == "own embeddings":
        with pytest.raises(InputError, match=r"differs from that of block 0; all must be the same"):
            convert(tmp_path, tmp_path / "run")
        return
    convert(tmp_path, tmp_path / "run")
    model = scoresde.load(tmp_path / "run").model
    x, k, classes = torch.randn(3, CHANNELS, 8, 8), torch.tensor([1, 250, 998]), torch.tensor([4, 0, 2])
    expected = net(x, timestep=k, class_labels=classes).sample[:, :CHANNELS]
    here = model(x, k.double() / (1000 if flows else 999), classes)
    assert ((here.velocity if flows else here.eps) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert isinstance(model.sde, RectifiedSDE) is flows
