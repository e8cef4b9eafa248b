"""Outputs of tiny networks, as in fixtures/networks_reference.json.

Those of `NCSNpp` are kept since its attention begins at a tenth of the variance, the others since commit d14582e.
"""

import torch
from nets_support import made


def values(case: str, kind: str | None) -> list[float]:
    """Three numbers that depend on every output with and without a condition, for weights made with one seed."""
    told = {} if kind is None else {"condition": kind, "condition_size": 3, "condition_dropout": 0.1}
    net, x, c = made(case, **told)
    generator = torch.Generator().manual_seed(9)
    conditions = {
        "class": torch.arange(6) % 3,
        "vector": torch.randn(6, 3, generator=generator, dtype=torch.float64),
        "tokens": torch.randn(6, 4, 3, generator=generator, dtype=torch.float64),
    }
    calls = [(x, c)] if kind is None else [(x, c), (x, c, conditions[kind])]
    with torch.no_grad():
        outs = [net.eval()(*call) for call in calls]
        weights = [torch.linspace(1, 2, out.numel(), dtype=out.dtype).reshape(out.shape) for out in outs]
        return [float((out * w).sum()) for out, w in zip(outs, weights, strict=True)]
