"""The distribution that samples of a run are meant to have."""

from __future__ import annotations

from typing import Any

import torch

from scoresde.build import build
from scoresde.checks import Target
from scoresde.data.numpy_files import read_npz
from scoresde.errors import refuse
from scoresde.model import Model
from scoresde.observation import Observation, in_units
from scoresde.runs.run import Run
from scoresde.runs.saved import Saved

POSTERIOR = "posterior.npz"  # beside samples that were drawn given an observation


def meant(run: Run, model: Model, samples: Saved | None, label: Any, guidance: float) -> Target:
    """That of a model of a run, or its posterior given what saved samples were drawn from.

    Args:
        run: whose model it is.
        model: the prior.
        samples: saved ones, with the summary of `scoresde sample`; None for draws from the model.
        label: of the prior.
        guidance: of the prior.

    Raises:
        InputError: the samples are of another run, label or guidance, or what was observed is not there.
    """
    if samples is None or not (said := samples.summary):
        return Target(model)
    for key, own in (("label", label), ("guidance", guidance)):
        other = said.get(key, own)
        refuse(other != own, f"{key}: {own} is not that of the samples; give {key}={other}")
    ways = ("guide", "classifier", "guidance_interval", "guidance_method")  # the last one whenever it is not plain
    led = next((key for key in ways if said.get(key) is not None), None)
    refuse(led is not None, f"samples: they were guided by {led}, so their score is not known; leave out stein")
    if "observation" not in said:
        return Target(model)
    where = f"samples: {samples.path.parent}"
    about: dict[str, Any] = {"event_shape": run.event_shape, "names": run.transform.names}
    seen = build(said["observation"], f"{where}: observation", run.packages, Observation, **about)
    file = samples.path.with_name(POSTERIOR)
    refuse(not file.is_file(), f"{where} has no {POSTERIOR}, which holds what was observed; draw the samples again")
    y = torch.from_numpy(read_npz(file, where)["y"])
    own = in_units(seen, run.transform)
    return Target(model, own, own.encode(y[None]).float())
