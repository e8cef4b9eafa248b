"""The conditions of a network besides the noise level. Imports torch and the errors of this package only."""

from collections.abc import Collection, Mapping
from functools import reduce
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args

import torch
from torch import Tensor, nn

from scoresde.constraints import NonNegativeInt, Probability, require_allowed
from scoresde.errors import InputError, refuse, require

Kind = Literal["class", "vector", "tokens", "image"]
Kinds = Kind | Mapping[str, Kind] | None
Sizes = NonNegativeInt | Mapping[str, NonNegativeInt]
Shares = Probability | Mapping[str, Probability]
Cond = Tensor | Mapping[str, Tensor] | None

AUGMENT = "augment"  # the condition that says how an image was changed; without one, it was not changed
_COUNTED = {"class": "the number of classes", "image": "the number of its channels"}
_WORDS = {"class": "class numbers, integers", "vector": "vectors", "tokens": "tokens", "image": "images"}
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
T = TypeVar("T")


class Embedded(NamedTuple):
    """Conditions as networks use them.

    Attributes:
        x: the input, with the channels of images after its own.
        vector: added to the embedding of the noise level, (B or 1, width).
        tokens: attended to by the blocks, (B or 1, L, width).
    """

    x: Tensor
    vector: Tensor | None
    tokens: Tensor | None


class Conditions(nn.Module):
    """The argument `cond` of every network: named conditions, embedded; hidden at random in training for guidance.

        kind      tensor                                 used as
        class     integers (B,) from 0 to size - 1       added to the embedding of the noise level
        vector    numbers (B, size)                      added to the embedding of the noise level
        tokens    numbers (B, L, size), any L >= 1       attended to (cross-attention)
        image     numbers (B, size, *sizes of x)         concatenated to the channels of the input

    `cond` is a mapping of names to tensors, or a tensor where there is one name besides `augment`. The place of a
    missing condition is taken by a null: a learned vector or token, an image of zeros. In training each sample's
    condition is replaced by the null with a probability, by torch's global generator (as dropout does), so that one
    network learns both and a sampler can weigh them (Ho and Salimans 2022, arXiv 2207.12598). One number per sample
    decides for all names: where probabilities are equal, all conditions are hidden together. The null begins at zero
    for classes and vectors. A missing `augment` is the vector zero, an image that was not changed.

    Without members, and the base of those with one (`Condition`) and several: the weights of a single condition have
    names that do not contain its own.

    Attributes:
        scale: factor of the sum of the vectors.
    """

    scale: float = 1.0

    @property
    def members(self) -> Mapping[str, "Condition"]:
        """Each condition by its name."""
        return {}

    @property
    def context(self) -> int:
        """Width of the tokens, or 0 where there are none."""
        return next((m.null.numel() for m in self.members.values() if m.kind == "tokens"), 0)

    @property
    def channels(self) -> int:
        """Channels that images add to the input."""
        return sum(m.size for m in self.members.values() if m.kind == "image")

    def forward(self, cond: Cond, x: Tensor) -> Embedded:
        """The conditions of the samples x (B, *event).

        Raises:
            InputError: unknown names, and conditions that do not fit.
        """
        given = named(self.members, cond)
        hides = self.training and any(self.members[name].dropout for name in given)
        chances = torch.rand(len(x), device=x.device) if hides else None
        uses: dict[str, list[Tensor]] = {"image": [x], "vector": [], "tokens": []}
        for name, member in self.members.items():
            use = "vector" if member.kind == "class" else member.kind
            uses[use].append(member.embedded(given.get(name), x, chances))
        images, vectors, tokens = uses.values()
        return Embedded(
            torch.cat(images, 1) if len(images) > 1 else x,
            reduce(torch.add, vectors) * self.scale if vectors else None,
            reduce(_beside, tokens) if tokens else None,
        )


def _beside(a: Tensor, b: Tensor) -> Tensor:
    """Tokens a (B or 1, L, width), then tokens b (B or 1, M, width)."""
    batch = max(len(a), len(b))
    return torch.cat([t.expand(batch, -1, -1) for t in (a, b)], 1)


class Condition(Conditions):
    """One condition; see `Conditions`.

    Args:
        name: its name.
        kind: class, vector, tokens or image.
        size: number of classes, of numbers in the vector or in each token, or of channels of the image.
        dropout: probability in [0, 1) of hiding it in training.
        width: number of channels of the result.

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(self, name: str, kind: Kind, size: int, dropout: float, width: int) -> None:
        super().__init__()
        require(kind in get_args(Kind), "condition", kind, f"give {', '.join(get_args(Kind))} or null")
        require(name.isidentifier(), "condition", name, "give names of letters and digits")
        wanted = _COUNTED.get(kind, f"how many numbers there are in the {kind}")
        require(size >= 1, "condition_size", size, f"condition={kind} needs {wanted}, >= 1")
        require_allowed("condition_dropout", dropout, Probability)
        self.name, self.kind, self.size, self.dropout = name, kind, size, dropout
        self.embed: nn.Module | None = None
        if kind != "image":
            self.embed = nn.Embedding(size, width) if kind == "class" else nn.Linear(size, width)
            self.null = nn.Parameter(torch.randn(width) if kind == "tokens" else torch.zeros(width))

    @property
    def members(self) -> Mapping[str, "Condition"]:
        return {self.name: self}

    def embedded(self, cond: Tensor | None, x: Tensor, chances: Tensor | None) -> Tensor:
        """The condition of the samples x, hidden where their chances are small; one for all of them if it is None."""
        if cond is None:
            return self._missing(x)
        self.check(cond, len(x), x.shape[2:])
        y, null = cond.to(x.dtype), x.new_zeros(())
        if self.embed is not None:
            y, null = self.embed(cond.long() if self.kind == "class" else cond.to(self.null.dtype)), self.null
        if chances is not None and self.dropout:
            y = torch.where((chances < self.dropout).reshape(-1, *(1,) * (y.ndim - 1)), null, y)
        return y

    def _missing(self, x: Tensor) -> Tensor:
        if self.embed is None:
            return x.new_zeros(len(x), self.size, *x.shape[2:])
        if self.name == AUGMENT:
            return cast(Tensor, self.embed(self.null.new_zeros(1, self.size)))
        return self.null[None, None] if self.kind == "tokens" else self.null[None]

    def check(self, cond: Tensor, batch: int, sizes: tuple[int, ...] | None = None) -> None:
        """Raise InputError unless `cond` is a condition of `batch` samples, of images of these sizes.

        The range of classes is checked on the host only, and not in compiled code: a device would have to be waited
        for. There torch's own check of an index stops the program.
        """
        n, rest = self.size, cond.shape[2:] if sizes is None else sizes
        shapes = {"class": (batch,), "vector": (batch, n), "tokens": (batch, *cond.shape[1:2], n)}
        shape: Any = shapes.get(self.kind, (batch, n, *rest))
        fits = cond.shape == shape and (cond.numel() > 0 or not batch)
        if self.kind == "tokens":
            shape = f"({batch}, L, {n})"
        if not fits or (self.kind == "class" and cond.dtype not in _INTEGERS):
            found = f"{cond.dtype} of shape {tuple(cond.shape)}"
            raise InputError(f"cond: {found} is not allowed; give {_WORDS[self.kind]} of shape {shape}")
        if self.kind == "class" and batch > 0 and cond.device.type == "cpu" and not torch.compiler.is_compiling():
            for end in map(int, torch.aminmax(cond)):
                require(0 <= end < n, "cond", end, f"give classes from 0 to {n - 1}")


class _Several(Conditions):
    def __init__(self, members: Mapping[str, Condition]) -> None:
        super().__init__()
        self.by_name = nn.ModuleDict(members)

    @property
    def members(self) -> Mapping[str, Condition]:
        return self.by_name._modules  # type: ignore[return-value]


def conditions(condition: Kinds, size: Sizes, dropout: Shares, width: int) -> Conditions:
    """The conditions of a network from its arguments `condition`, `condition_size` and `condition_dropout`.

    Args:
        condition: a kind, which is its own name, or kinds by name; None for no condition.
        size: of the condition, or sizes by name.
        dropout: the probability of hiding a condition, by name; a number is for all but images and `augment`, which
            are never hidden then.
        width: number of channels of the embedding.

    Raises:
        InputError: an unknown kind, a name without a size, an argument out of its range.
    """
    if condition is None:
        require(not size, "condition_size", size, "give condition=class, vector, ... with it, or 0")
    kinds: dict[str, Kind] = {condition: condition} if isinstance(condition, str) else dict(condition or {})
    sizes = _by_name("condition_size", size, kinds, kinds)
    hidden = [name for name, kind in kinds.items() if kind != "image" and name != AUGMENT]
    shares = _by_name("condition_dropout", dropout, kinds, hidden)
    members = {
        name: Condition(name, kind, sizes.get(name, 0), shares.get(name, 0.0), width) for name, kind in kinds.items()
    }
    return _Several(members) if len(members) > 1 else next(iter(members.values()), Conditions())


def conditions_of(net: nn.Module) -> Mapping[str, Condition]:
    """The conditions that a network takes, by name."""
    found = getattr(net, "condition", None)
    return found.members if isinstance(found, Conditions) else {}


def _by_name(what: str, given: T | Mapping[str, T], known: Collection[str], names: Collection[str]) -> Mapping[str, T]:
    """Values by name; one value is that of all `names`."""
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, given)
    require(given.keys() <= set(known), what, dict(given), f"the conditions are {', '.join(known) or 'none'}")
    return given


def named(conditions: Mapping[str, Condition], cond: Cond) -> Mapping[str, Tensor]:
    """The conditions `cond` by name; a bare tensor is that of the only condition besides `augment`.

    Raises:
        InputError: a name that is not one of `conditions`, or a bare tensor that could belong to several.
    """
    if cond is None:
        return {}
    if not conditions:
        raise InputError("cond: this network takes no condition; make it with condition=class, vector, tokens or image")
    names = ", ".join(conditions)
    if isinstance(cond, Tensor):
        own = [name for name in conditions if name != AUGMENT] or [AUGMENT]
        refuse(len(own) > 1, f"cond: a tensor could be any of {names}; give a mapping of names to tensors")
        return {own[0]: cond}
    for name in cond:
        require(name in conditions, "cond", name, f"give some of {names}")
    return cond
