"""The places of a U-Net in the order of computation, with the rows of the modulation that belong to each."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

from torch import nn

from scoresde.nets.blocks import ResidualBlock
from scoresde.nets.skip_unet import Level, SkipUNet

Way = Literal["down", "middle", "up"]
Role = Literal["block", "resample", "side"]


class Spot(NamedTuple):
    """A module of a U-Net.

    Attributes:
        path: its name.
        module: itself.
        way, level, role, number: where it stands; levels count from 0, the finest, blocks within their level.
        rows: of the modulation's matrix, for each of its pieces.
    """

    path: str
    module: nn.Module
    way: Way
    level: int
    role: Role
    number: int
    rows: list[slice]

    @property
    def attends(self) -> bool:
        return isinstance(self.module, ResidualBlock) and self.module.attention is not None


def spots(net: SkipUNet) -> list[Spot]:
    """All blocks, steps between levels and sides; each step and each side behind the blocks of its level.

    On the way down a level's step comes before its side, on the way up after it, as they are computed.
    """
    done, rows = [], 0
    for path, module, way, level, role, number in _modules(net):
        pieces = []
        for size in getattr(module, "sizes", ()):
            pieces.append(slice(rows, rows + size))
            rows += size
        done.append(Spot(path, module, way, level, role, number, pieces))
    return done


def _modules(net: SkipUNet) -> Iterator[tuple[str, nn.Module, Way, int, Role, int]]:
    for k, level in enumerate(net.down):
        yield from _level(cast(Level, level), f"down.{k}", "down", k)
    for i, block in enumerate(net.middle):
        yield f"middle.{i}", block, "middle", len(net.down) - 1, "block", i
    for k, level in enumerate(net.up):
        yield from _level(cast(Level, level), f"up.{k}", "up", len(net.up) - 1 - k)


def _level(level: Level, path: str, way: Way, k: int) -> Iterator[tuple[str, nn.Module, Way, int, Role, int]]:
    for i, block in enumerate(level.blocks):
        yield f"{path}.blocks.{i}", block, way, k, "block", i
    roles: tuple[Role, ...] = ("resample", "side") if way == "down" else ("side", "resample")
    for role in roles:
        module = getattr(level, role)
        if module is not None:
            yield f"{path}.{role}", module, way, k, role, 0
