"""Muon for the matrices of a network, AdamW for all other parameters; both are those of torch."""

from collections import defaultdict
from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from scoresde.constraints import Constraint, NonNegative, Probability
from scoresde.described import Described

_Iterations = Annotated[int, Constraint(lambda n: 1 <= n < 100, "an integer from 1 to 99")]


class Muon(Described, torch.optim.Optimizer):
    """Momentum whose update of each matrix is made orthogonal by Newton-Schulz iterations (Jordan et al. 2024).

        B <- momentum B + g,   W <- (1 - lr weight_decay) W - 0.2 lr sqrt(max(rows, columns)) U V^T,
        where U S V^T = g + momentum B

    The factor gives updates the size of those of AdamW (Liu et al. 2025, arXiv 2502.16982, eq. 4), so learning rates of
    AdamW are valid. Weights of convolutions are matrices with a row for each output channel. Biases, scales and
    other vectors are updated by AdamW (arXiv 1711.05101).

    Args:
        params: the parameters.
        lr: learning rate, of both.
        weight_decay: decoupled, of both.
        momentum: of the matrices, in [0, 1).
        ns_steps: iterations; five bring all singular values to between 0.7 and 1.2.
        betas: of AdamW.
        eps: of AdamW.

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(
        self,
        params: Any,
        lr: NonNegative = 0.001,
        weight_decay: NonNegative = 0.01,
        momentum: Probability = 0.95,
        ns_steps: _Iterations = 5,
        betas: tuple[Probability, Probability] = (0.9, 0.999),
        eps: NonNegative = 1e-8,
    ) -> None:
        # fused: so that torch moves the step counts of a loaded state to where fused AdamW expects them
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "fused": True})
        stand_in = [nn.Parameter(torch.empty(1, 1))]
        self._muon = torch.optim.Muon(stand_in, momentum=momentum, ns_steps=ns_steps, adjust_lr_fn="match_rms_adamw")
        self._adamw = torch.optim.AdamW(stand_in, betas=betas, eps=eps, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; returns the value of `closure` if one is given."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            settings = {key: group[key] for key in ("lr", "weight_decay")}
            self._step_matrices([p for p in group["params"] if p.ndim >= 2], settings)
            self._adamw.state = self.state  # it looks for its own parameters only
            self._adamw.param_groups[0] |= settings | {"params": [p for p in group["params"] if p.ndim < 2]}
            self._adamw.step()
        return loss

    def _step_matrices(self, parameters: list[Tensor], settings: dict[str, Any]) -> None:
        states: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        for p in parameters:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(p)
            view = nn.Parameter(_matrix(p.detach(), p), requires_grad=False)
            view.grad = _matrix(p.grad, p)
            states[view]["momentum_buffer"] = _matrix(state["momentum_buffer"], p)
        self._muon.state = states
        self._muon.param_groups[0] |= settings | {"params": list(states)}
        self._muon.step()  # type: ignore[no-untyped-call]


def _matrix(t: Tensor, parameter: Tensor) -> Tensor:
    """The tensor as a matrix whose columns are in the order in which they lie in the parameter's memory.

    That order does not matter to Muon; a parameter, and what lies as it does, is not copied.
    """
    if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        t = t.permute(0, 2, 3, 1)
    return t.flatten(1)
