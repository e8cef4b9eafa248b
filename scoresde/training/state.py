"""The state of modules and optimizers as named tensors, and its strict inverse."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.errors import refuse
from scoresde.training.shards import cut, fill, is_cut, rows

HALF = (torch.float16, torch.bfloat16)
_SHOWN = 3  # of each kind of mismatch; the rest are counted


def _some(items: Sequence[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def module_state(module: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers of a module by name.

    Raises:
        InputError: the state holds something that is not a tensor (`get_extra_state`), which would need pickle.
    """
    state = module.state_dict()
    other = [name for name, value in state.items() if not isinstance(value, Tensor)]
    refuse(bool(other), f"model: {_some(other)} cannot be saved; keep only tensors in the state of a module")
    return state


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], origin: object) -> None:
    """Copy named tensors into a module; all names, shapes and types must be the same.

    Args:
        origin: of the tensors, for the message.

    Raises:
        InputError: see `require_same`.
    """
    own = module_state(module)
    require_same(tensors, own, origin)
    if any(map(is_cut, own.values())):
        fill(own, tensors)
    else:
        module.load_state_dict(dict(tensors), strict=True)


def require_same(saved: Mapping[str, Tensor], own: Mapping[str, Tensor], origin: object) -> None:
    """Refuse tensors from a file that are not those of a model; float32 also stands for half precision, as averages do.

    Raises:
        InputError: names, shapes or types differ; names the first few, with both kinds.
    """
    changed = [name for name in sorted(saved.keys() & own.keys()) if not _fits(saved[name], own[name])]
    both = "{} {} in the checkpoint but {} in the model".format
    kinds = {
        "of another kind": [both(n, _kind(saved[n]), _kind(own[n])) for n in changed],
        "missing from the checkpoint": sorted(own.keys() - saved.keys()),
        "unknown to the model": sorted(saved.keys() - own.keys()),
    }
    faults = [f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names]
    wrong = f"{origin} is of another architecture: {'; '.join(faults)}"
    refuse(bool(faults), f"checkpoint: {wrong}; use the model settings of its run")


def _fits(saved: Tensor, own: Tensor) -> bool:
    same = saved.dtype == own.dtype or (saved.dtype == torch.float32 and own.dtype in HALF)
    return same and saved.shape == own.shape


def _kind(value: Any) -> str:
    """The shape of a tensor, and its type unless that is the usual one."""
    if not isinstance(value, Tensor):
        return "no tensor"
    shape, dtype = tuple(value.shape), str(value.dtype).removeprefix("torch.")
    return f"{shape}" if dtype == "float32" else f"{shape} of {dtype}"


def optimizer_state(optimizer: torch.optim.Optimizer, module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of an optimizer: tensors named "exp_avg/net.out.weight", and the rest as values that JSON can hold.

    Learning rates and other options are not part of it: they are settings of the optimizer that loads the state.

    Raises:
        InputError: a parameter of the optimizer is not one of the module.
    """
    names = _parameter_names(optimizer, module)
    state = {f"{key}/{name}": v for p, name in names.items() for key, v in optimizer.state.get(p, {}).items()}
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    values = {key: value for key, value in state.items() if key not in tensors}
    return tensors, {"class": type(optimizer).__name__, "values": values}


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    rest: Mapping[str, Any],
    origin: object,
) -> None:
    """The inverse of `optimizer_state`.

    Raises:
        InputError: the state is of another class of optimizer, or does not fit the parameters or its settings.
    """
    own, saved = type(optimizer).__name__, rest["class"]
    wanted = f"cannot resume from the state of {saved} in {origin}; use {saved}, or init= for a new run"
    refuse(own != saved, f"optimizer: {own} {wanted}")
    parameters = {name: p for p, name in _parameter_names(optimizer, module).items()}
    states: dict[str, dict[str, Any]] = {name: {} for name in parameters}
    for key, value in itertools.chain(tensors.items(), rest["values"].items()):
        slot, _, name = key.partition("/")
        wanted = "which is not trained now; use the settings of its run"
        refuse(name not in states, f"optimizer: {origin} trained {name}, {wanted}")
        states[name][slot] = _laid_out_as(parameters[name], value)
    for (name, kept), first in zip(states.items(), first_states(optimizer), strict=True):
        for slot, value in first.items() if kept else ():
            found, needed = _kind(kept.get(slot)), _kind(value)
            wanted = f"{found} where {own} keeps {needed}; use another checkpoint, or the optimizer settings of its run"
            refuse(found != needed, f"checkpoint: {origin}: {slot}/{name} is {wanted}")
    state = optimizer.state_dict()
    state["state"] = {index: own for index, own in enumerate(states.values()) if own}
    optimizer.load_state_dict(state)


def first_states(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The state that a first step makes for each parameter, in their order, found by one on zeros in their place."""
    groups, kept = optimizer.param_groups, optimizer.state
    own = [group["params"] for group in groups]
    try:
        optimizer.state = defaultdict(dict)
        for group in groups:
            group["params"] = [torch.zeros_like(p, requires_grad=True) for p in group["params"]]
        zeros = [p for group in groups for p in group["params"]]
        for p in zeros:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        return [optimizer.state[p] for p in zeros]
    finally:
        optimizer.state = kept
        for group, params in zip(groups, own, strict=True):
            group["params"] = params


def _laid_out_as(parameter: Tensor, value: Any) -> Any:
    """A tensor in the memory layout of the parameter, since fused optimizers traverse both at once, or its rows."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    if is_cut(parameter):
        return cut(rows(value, parameter).clone(), parameter)
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter.detach(), dtype=value.dtype, device=value.device).copy_(value)


def _parameter_names(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[Tensor, str]:
    """The names of the parameters of an optimizer, in its order."""
    known = {parameter: name for name, parameter in module.named_parameters()}
    params = [p for group in optimizer.param_groups for p in group["params"]]
    strangers = len(set(params) - known.keys())
    wanted = "are not parameters of the model; build it from model.parameters()"
    refuse(strangers > 0, f"optimizer: {strangers} of its {len(params)} parameters {wanted}")
    return {p: known[p] for p in params}


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity; None if all are finite."""
    wide = ((name, t) for name, t in tensors.items() if t.element_size() > 1)  # torch cannot ask this of float8
    return next((name for name, t in wide if not bool(torch.isfinite(t).all())), None)
