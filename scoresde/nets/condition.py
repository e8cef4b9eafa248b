"""What a network is told besides the noise level. Imports torch, the errors of this package and this folder only."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from scoresde.errors import InputError, require

Kind = Literal["class", "vector", "tokens"]
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Told(NamedTuple):
    """A condition as blocks see it: a vector (B, width) added to the noise embedding, or tokens (B, L, width)."""

    vector: Tensor | None = None
    tokens: Tensor | None = None


class Condition(nn.Module):
    """The argument `cond` of every network, embedded; with drop-out in training for classifier-free guidance.

        kind      cond                                   reaches the blocks
        class     integers (B,) from 0 to size - 1       added to the embedding of the noise level
        vector    numbers (B, size)                      added to the embedding of the noise level
        tokens    numbers (B, L, size), any L >= 1       by cross-attention

    Without a condition (`cond` is None) a learned null takes its place: one more class, one vector, one token. In
    training each sample's condition is replaced by the null with probability `dropout`, by torch's global generator
    (as dropout does), so that one network learns both and a sampler can weigh them (Ho and Salimans 2022, arXiv
    2207.12598). The null begins at zero for classes and vectors.

    Args:
        kind: see above; None takes no condition.
        size: number of classes, or of numbers in the vector or in each token.
        dropout: probability in [0, 1) of replacing a condition by the null while training.
        width: number of channels of the result.

    Raises:
        InputError: an argument out of its range, and a condition that does not fit, when called.
    """

    def __init__(self, kind: Kind | None, size: int, dropout: float, width: int) -> None:
        super().__init__()
        require(kind in (None, "class", "vector", "tokens"), "condition", kind, "give class, vector, tokens or null")
        require(0 <= dropout < 1, "condition_dropout", dropout, "give a probability in [0, 1)")
        if kind is None:
            require(size == 0, "condition_size", size, "give condition=class, vector or tokens with it, or 0")
        else:
            what = "the number of classes" if kind == "class" else f"how many numbers there are in the {kind}"
            require(size >= 1, "condition_size", size, f"condition={kind} needs {what}, >= 1")
        self.kind, self.size, self.dropout = kind, size, dropout
        self.embed: nn.Module | None = None
        if kind is not None:
            self.embed = nn.Embedding(size, width) if kind == "class" else nn.Linear(size, width)
        if kind is not None:
            self.null = nn.Parameter(torch.randn(width) if kind == "tokens" else torch.zeros(width))

    @property
    def context(self) -> int:
        """Width of the tokens, or 0 where there are none."""
        return self.null.numel() if self.kind == "tokens" else 0

    def forward(self, cond: Tensor | None, batch: int) -> Told:
        """The condition of `batch` samples; without one, or where it is None, of one sample that stands for all."""
        if self.embed is None:
            if cond is not None:
                raise InputError(
                    "cond: this network takes no condition; make it with condition=class, vector or tokens"
                )
            return Told()
        if cond is None:
            embedded = self.null[None]
            return Told(tokens=embedded[None]) if self.kind == "tokens" else Told(vector=embedded)
        self.check(cond, batch)
        embedded = self.embed(cond.long() if self.kind == "class" else cond.to(self.null.dtype))
        if self.training and self.dropout:
            dropped = torch.rand(batch, device=cond.device) < self.dropout
            embedded = torch.where(dropped.reshape(-1, *(1,) * (embedded.ndim - 1)), self.null, embedded)
        return Told(tokens=embedded) if self.kind == "tokens" else Told(vector=embedded)

    def check(self, cond: Tensor, batch: int) -> None:
        """Raise InputError unless `cond` is a condition of `batch` samples.

        The range of classes is looked at on the host only, and not in compiled code: a device would have to be waited
        for. There torch's own check of an index stops the program.
        """
        if self.kind == "class":
            fits, wanted = cond.shape == (batch,) and cond.dtype in _INTEGERS, f"class numbers, integers ({batch},)"
        elif self.kind == "vector":
            fits, wanted = cond.shape == (batch, self.size), f"vectors ({batch}, {self.size})"
        else:
            fits = cond.ndim == 3 and cond.shape[::2] == (batch, self.size) and cond.shape[1] > 0
            wanted = f"tokens ({batch}, L, {self.size})"
        if not fits:
            raise InputError(f"cond: {cond.dtype} of shape {tuple(cond.shape)} is not allowed; give {wanted}")
        looked_at = cond.device.type == "cpu" and not torch.compiler.is_compiling()
        if self.kind == "class" and looked_at and batch > 0:
            low, high = (int(end) for end in torch.aminmax(cond))
            wrong = low if low < 0 else high
            require(low >= 0 and high < self.size, "cond", wrong, f"give classes from 0 to {self.size - 1}")
