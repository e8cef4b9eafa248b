"""What a scheduler of diffusers says of its network: the path, the label of a noise level, and what is predicted.

Facts about schedulers are here and in `export`, and nowhere else. diffusers itself is not needed.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from scoresde.convert.config import Allowed, Config, check_allowed, discrete_vp, edm, flow, labelled
from scoresde.convert.parts import table
from scoresde.convert.plan import Facts
from scoresde.errors import did_you_mean, refuse
from scoresde.sde.discrete import betas

SCHEDULES = table("linear=linear scaled_linear=scaled_linear squaredcos_cap_v2=cosine")
TARGETS = table("epsilon=eps sample=x0 v_prediction=v")
_WHERE, _FILE = "file: the scheduler's", "scheduler_config.json"
_FLOWS = ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete")
_EDMS = ("EDMEuler", "EDMDPMSolverMultistep")
_LATER = ("HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE")  # with other rates by default
_CHAINS: tuple[str, ...] = (*_LATER, "DDPM", "DDPMParallel", "DDIM", "DDIMParallel", "DDIMInverse")
_CHAINS += ("EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep", "DPMSolverMultistepInverse")
_CHAINS += ("PNDM", "LMSDiscrete", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep", "SASolver")
_VES = ("ScoreSdeVe",)
_BY_SDE = {"rectifiedsde": _FLOWS[0], "edmsde": _EDMS[0]}
# what the schedulers are where their files do not say it, and what else they may be
_CHAIN: Config = {"beta_schedule": "linear", "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}
_CHAIN |= {"prediction_type": "epsilon", "trained_betas": None, "rescale_betas_zero_snr": False}
_EDM: Config = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "prediction_type": "epsilon"}
_FLOW: Config = {"num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": False}
_ALLOWED_CHAIN: Allowed = {"beta_schedule": tuple(SCHEDULES), "prediction_type": tuple(TARGETS)}
_ALLOWED_CHAIN |= {"use_flow_sigmas": (False, None), "timestep_type": ("discrete",)}
_ALLOWED_EDM: Allowed = {"prediction_type": ("epsilon", "v_prediction")}
_ALLOWED_FLOW: Allowed = {"invert_sigmas": (False, None)}


class Meaning(NamedTuple):
    """What the output of a network means.

    Attributes:
        sde: configuration of the SDE.
        model: configuration of the model, without `net`.
        negated: whether the output of the original has the other sign.
        notes: what the reader of the report should know.
    """

    sde: Config
    model: Config
    negated: bool = False
    notes: tuple[str, ...] = ()


def meaning(schedule: Mapping[str, Any], facts: Facts, ve: bool) -> Meaning:
    """What a scheduler says, or DDPM's where there is none.

    Args:
        schedule: the scheduler's configuration; empty if there is none.
        facts: what was given, such as the SDE where there is no scheduler.
        ve: whether the network is of the form for NCSN++.

    Raises:
        InputError: the class of the scheduler, what it predicts, or its rates are not known here.
    """
    if ve:
        _known(schedule, _VES)
        return Meaning(*_exploding(schedule, facts), negated=True)
    kind = _known(schedule, (*_CHAINS, *_EDMS, *_FLOWS))
    if not schedule:
        kind = _BY_SDE.get(str(facts.get("sde", "ddpm")), "DDPM")
    make = _flow if kind in _FLOWS else _edm if kind in _EDMS else _chain
    rates = {"beta_start": 0.00085, "beta_end": 0.012} if kind in _LATER else {}
    return make({**rates, **schedule}, facts)


def _known(schedule: Mapping[str, Any], kinds: tuple[str, ...]) -> str:
    """The class of a scheduler without the last word of its name."""
    name = str(schedule.get("_class_name"))
    kind = name.removesuffix("Scheduler")
    hint = did_you_mean(name, [f"{k}Scheduler" for k in kinds]) or f"; {', '.join(kinds)} can"
    refuse(bool(schedule) and kind not in kinds, f"{_WHERE} _class_name: {name} cannot be converted{hint}")
    return kind


def _chain(schedule: Mapping[str, Any], facts: Facts) -> Meaning:
    """The path through numbered levels."""
    check_allowed(schedule, _ALLOWED_CHAIN, _WHERE)
    known = _CHAIN | dict(schedule)
    values = {"schedule": SCHEDULES[known["beta_schedule"]], "levels": known["num_train_timesteps"]}
    values |= {"first": known["beta_start"], "last": known["beta_end"]}
    if trained := known["trained_betas"]:
        values = {"levels": len(trained)}
    for key, value in values.items():
        values[key] = facts.infer(key, value, _FILE) if schedule else facts.get(key, value)
    model = labelled("time", float(values["levels"] - 1), precond=TARGETS[known["prediction_type"]])
    if not trained and not known["rescale_betas_zero_snr"]:
        return Meaning(discrete_vp(**values), model)
    alpha2 = np.cumprod(1 - np.asarray(trained or betas(**values), dtype=np.float64))
    notes: tuple[str, ...] = ()
    if known["rescale_betas_zero_snr"]:
        alpha2 = _without_signal_at_the_end(alpha2)
    if alpha2[-1] == 0 and model["precond"] == "eps":  # of which no x0 follows there
        alpha2, notes = alpha2[:-1], ("the last level, of noise alone, is left out",)
        model["label_scale"] -= 1
    return Meaning({"_target_": "scoresde.LevelsVPSDE", "alphas": alpha2.tolist()}, model, notes=notes)


def _edm(schedule: Mapping[str, Any], facts: Facts) -> Meaning:
    """The preconditioning of EDM; what is called v_prediction is its output with the other sign."""
    check_allowed(schedule, _ALLOWED_EDM, _WHERE)
    known = _EDM | dict(schedule)
    keys = ("sigma_data", "sigma_min", "sigma_max")
    values = [facts.infer(k, known[k], _FILE) if schedule else facts.get(k, known[k]) for k in keys]
    return Meaning(*edm(*map(float, values)), negated=known["prediction_type"] == "v_prediction")


def _flow(schedule: Mapping[str, Any], facts: Facts) -> Meaning:
    """Straight lines, whose time is the label over the number of levels; a shift moves the levels that are visited."""
    check_allowed(schedule, _ALLOWED_FLOW, _WHERE)
    known = _FLOW | dict(schedule)
    levels, shift = known["num_train_timesteps"], 1.0 if known["use_dynamic_shifting"] else known["shift"]
    if schedule:
        facts.infer("levels", levels, _FILE)
    smallest = shift / (levels + shift - 1)  # the shifted 1 / levels
    return Meaning(*flow(float(levels), t_min=smallest))


def _exploding(schedule: Mapping[str, Any], facts: Facts) -> tuple[Config, Config]:
    """The variance exploding SDE; the network's label is sigma."""
    for key in ("sigma_min", "sigma_max"):
        if key in schedule:
            facts.infer(key, float(schedule[key]), _FILE)
    low, high = facts.get("sigma_min", 0.01), facts.need("sigma_max", "give sde=ve sde.sigma_max=1348 or so")
    sde = {"_target_": "scoresde.VESDE", "sigma_min": float(low), "sigma_max": float(high)}
    return sde, {**labelled("log_sigma", 1.0), "sigma_data": 0.25}


def _without_signal_at_the_end(alpha2: np.ndarray) -> np.ndarray:
    """Squares alpha_k^2, (N,), shifted and scaled so that the last is zero and the first as it was.

    Lin et al. 2024 (arXiv 2305.08891, algorithm 1).
    """
    alpha = np.sqrt(alpha2)
    return np.asarray(((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])) ** 2)
