"""The blocks that NCSN++ and ADM share. Imports torch and this folder only."""

from functools import partial
from typing import Literal

from torch import nn

from scoresde.nets.attention import ImageAttention, heads_of
from scoresde.nets.blocks import ResampledConv, ResidualBlock, StridedConv
from scoresde.nets.layers import Norm
from scoresde.nets.resample import BOX, FIR, Down, FilteredConv, Up
from scoresde.nets.skip_unet import Place, SkipUNet


class ResidualUNet(SkipUNet):
    """A `SkipUNet` of residual blocks; a subclass sets the attributes that differ from these before `assemble`."""

    _norm: Norm
    _pieces: Literal[0, 1, 2] = 1  # of the modulation for each block
    _dropout: float = 0.0
    _rescale = False  # divide the sums by sqrt(2)
    _head_width = 0
    _taps: tuple[float, ...] = BOX  # of the filter where the resolution changes
    _inside = True  # the resolution changes inside residual blocks; else between them
    _project = False  # blocks that change the resolution have a projection though they keep the width
    _resample_conv = True  # a convolution between blocks where the resolution changes
    _pad: Literal["both", "end"] = "both"

    def block(self, inputs: int, outputs: int, place: Place) -> nn.Module:
        changes = {"keep": None, "down": Down(self._taps), "up": Up(self._taps)}[place.resample]
        if changes is not None and not self._inside:
            return self._between(inputs, outputs, changes)
        attend = partial(ImageAttention, outputs, norm=self._norm, rescale=self._rescale)
        attention, cross = self.attentions(
            place, lambda context: attend(heads_of(outputs, self._head_width), context=context)
        )
        return ResidualBlock(
            inputs,
            outputs,
            norm=self._norm,
            pieces=self._pieces,
            dropout=self._dropout,
            rescale=self._rescale,
            resample=changes,
            project=self._project and changes is not None,
            attention=attention,
            cross=cross,
        )

    def _between(self, inputs: int, outputs: int, changes: nn.Module) -> nn.Module:
        """The step between two levels, without a residual block."""
        if isinstance(changes, Up) or not self._resample_conv:
            return ResampledConv(inputs, outputs, changes, self._resample_conv)
        if self._taps == FIR:
            return FilteredConv(inputs, outputs)
        return StridedConv(inputs, outputs, pad=self._pad)
