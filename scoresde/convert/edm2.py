"""State dicts of EDM2's networks, of autoguidance too: modules named by resolution, without biases.

Facts about that layout are here and in `edm`, and nowhere else (Karras et al. 2024, arXiv 2312.02696, and its code).
"""

from collections.abc import Iterator

import torch

from scoresde.convert.config import edm
from scoresde.convert.edm import ByResolution
from scoresde.convert.files import Source
from scoresde.convert.forms import interleaved
from scoresde.convert.names import ALL, FREQUENCIES, NULL
from scoresde.convert.parts import Part, numbers, table
from scoresde.convert.plan import Facts, Layout, Plan

_SOURCE = "names and shapes of weights"


class _Names(ByResolution):
    """Rows (channel, q k v), and a gain in every block."""

    first = (FREQUENCIES, "modulation.embed.phases", "modulation.hidden", "condition.embed.layer", NULL, "stem.conv")
    last = ("head.conv", "head.gain")
    inside = table(
        "conv1=conv_res0 conv2=conv_res1 skip=conv_skip modulation=emb_linear "
        "attention.out=attn_proj attention.qkv=attn_qkv"
    )

    def __init__(self, size: int) -> None:
        super().__init__(size)
        theirs = "emb_fourier.freqs emb_fourier.phases emb_noise emb_label null "
        theirs += f"enc.{size}x{size}_conv out_conv out_gain"
        self.top = dict(zip((*self.first, *self.last), theirs.split(), strict=True))
        self.forms = {"attention.qkv": interleaved(1)}

    def layer(self, inner: str, theirs: str, path: str = "", rows: slice = ALL) -> Iterator[Part]:
        yield next(super().layer(inner, theirs, path, rows))  # the weight
        if inner == "modulation.out":
            yield Part(f"{self.spot.path}.gain", theirs.replace("emb_linear", "emb_gain"))


class EDM2s(Layout):
    """See the module."""

    name = "edm2"
    mark = r"emb_fourier\.freqs"
    keys = table("sigma_data=sigma_data dropout=dropout channels_per_head=head_width")

    def plan(self, source: Source, facts: Facts) -> Plan:
        tensors = source.raw
        sizes = numbers(tensors, r"enc\.(\d+)x\1_")[::-1]
        size = facts.infer("image_size", sizes[0], _SOURCE)
        stem = tensors[f"enc.{size}x{size}_conv.weight"]
        widths = [len(tensors[f"enc.{n}x{n}_block0.conv_res0.weight"]) for n in sizes]
        blocks = len(numbers(tensors, rf"enc\.{size}x{size}_block(\d+)\.conv_res0"))
        attention = [k for k, n in enumerate(sizes) if f"enc.{n}x{n}_block0.attn_qkv.weight" in tensors]
        classes = tensors.get("emb_label.weight", torch.empty(0, 0)).shape[1]
        net = facts.network(_SOURCE, len(stem), widths, blocks, attention, classes)
        del net["noise_scale"]
        net |= {"_target_": "scoresde.nets.EDM2", "head_width": int(facts.get("head_width", 64))}
        net["dropout"] = float(facts.get("dropout", 0.0))
        sde, model = edm(float(facts.get("sigma_data", 0.5)))
        plan = Plan(net, model, sde, (stem.shape[1] - 1, size, size), _Names(size))
        training = (name for name in tensors if name.startswith("logvar_"))
        plan.dropped = dict.fromkeys(training, "the weight of a level is for training")
        plan.made = {"null": torch.zeros(max(widths))} if classes else {}
        return plan
