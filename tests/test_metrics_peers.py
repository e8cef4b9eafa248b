"""Metrics in features agree with prdc, torchmetrics and clean-fid, where these are installed."""

from importlib import import_module

import numpy as np
import pytest
import torch
from torch import Tensor

from scoresde.metrics import density_coverage, frechet_distance, kernel_distance, polynomial_mmd2, precision_recall

Pairs = dict[str, tuple[float, float]]  # ours and theirs


def prdc(fake: Tensor, real: Tensor) -> Pairs:
    peer, found = import_module("prdc"), {}
    for k in (3, 5):
        theirs = peer.compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
        ours = precision_recall(fake, real, k)._asdict() | density_coverage(fake, real, k)._asdict()
        found |= {f"{key} {k}": (value, float(theirs[key])) for key, value in ours.items()}
    return found


def torchmetrics(fake: Tensor, real: Tensor) -> Pairs:
    fid, kid = (import_module(f"torchmetrics.image.{name}") for name in ("fid", "kid"))
    moments = [part for cloud in (real, fake) for part in (cloud.mean(0), cloud.T.cov())]
    return {
        "frechet": (frechet_distance(fake, real), float(fid._compute_fid(*moments))),
        "kernel": (polynomial_mmd2(fake, real), float(kid.poly_mmd(real, fake))),
    }


def cleanfid(fake: Tensor, real: Tensor) -> Pairs:
    peer = import_module("cleanfid.fid")
    moments = [part for cloud in (real, fake) for part in (cloud.numpy().mean(0), np.cov(cloud.numpy().T))]
    everything = peer.kernel_distance(fake.numpy(), real.numpy(), num_subsets=1, max_subset_size=len(real))
    return {
        "frechet": (frechet_distance(fake, real), float(peer.frechet_distance(*moments))),
        "kernel": (kernel_distance(fake, real).mean, everything),
    }


@pytest.mark.parametrize("peer", [prdc, torchmetrics, cleanfid])
def test_values_are_those_of(peer) -> None:
    rng = np.random.default_rng(0)
    fake, real = (torch.from_numpy(scale * rng.standard_normal((300, 16)) + scale) for scale in (1.2, 1.0))
    try:
        found = peer(fake, real)
    except ImportError as error:
        pytest.skip(str(error))
    for key, (ours, theirs) in found.items():
        assert ours == pytest.approx(theirs, rel=1e-9), key
