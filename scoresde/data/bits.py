"""Sequences of bits with a known entropy."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from scoresde.constraints import Count, at_least, fitting
from scoresde.data.dataset import Dataset, Source, assemble, split
from scoresde.data.transform import Transform


@dataclass(kw_only=True)
class Heartbeat(Source):
    """Sequences of bits with a one in every fifth place, from one of five phases on; events (1, length).

    The phases are equally likely and their class, so the entropy is log2 5 = 2.32 bits a sequence. Bits 0 and 1 become
    -1 and 1 in model units. Sohl-Dickstein et al. 2015 (arXiv 1503.03585), section 3.1.2.

    Args:
        n: number of sequences, training and held-out together.
        length: bits of one.
        period: from one beat to the next, and the number of phases.
        held_out: fraction of the sequences that training never uses.
        split_seed: which sequences those are.

    Raises:
        InputError: n < 2, length < 1, a period < 2, held_out outside (0, 1) or a negative seed.
    """

    n: Annotated[int, at_least(2), fitting(80)] = 2500
    length: Count = 20
    period: Annotated[int, at_least(2)] = 5

    def load(self) -> Dataset:
        """Write out the sequences."""
        phases = np.arange(self.n) % self.period
        beats = (np.arange(self.length) - phases[:, None]) % self.period == 0
        parts = split(self.n, self.held_out, self.split_seed)
        return assemble(beats[:, None].astype(np.uint8), Transform.of_bits((1, self.length)), parts, phases)
