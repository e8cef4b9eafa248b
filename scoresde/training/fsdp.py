"""Networks that are cut over processes, each of which holds some rows of every weight: FSDP2 of torch."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from scoresde.errors import InputError, one_line, refuse
from scoresde.loss import Batch, Loss, LossTerms
from scoresde.model import device_of
from scoresde.parallel import World
from scoresde.training.ddp import Evaluated
from scoresde.training.muon import Muon
from scoresde.training.settings import Settings
from scoresde.training.shards import cut, is_cut, local, rows, unite
from scoresde.training.shares import Shares, parts_of
from scoresde.training.state import first_states

_LARGEST = 1 / 8  # of all weights in a unit, unless it is one layer: what a process gathers
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_LEAST = 1 / 64  # of all weights in a single layer that is a unit: smaller ones are not worth an exchange of their own
_ROWS = "does not update some rows of a matrix without the others; give optimizer=adam, or trainer.strategy=exact"
_Slot = tuple[nn.Module, str, nn.Parameter]
_MIXED = "mixed torch.Tensor and DTensor"  # what torch says where one meets the other


def units(module: nn.Module) -> Iterator[nn.Module]:
    """The modules whose weights are gathered together, when they are called, and let go after it.

    The largest ones below `module` with at most an eighth of its weights, and layers of lists from a 64th of them on;
    other modules may read the weights of their own layers without calling them. No two share a weight.
    """
    uses, size = Counter(_slots(module)), sum(p.numel() for p in module.parameters())

    def below(parent: nn.Module) -> Iterator[nn.Module]:
        for child in parent.children():
            weights = sum(p.numel() for p in child.parameters())
            layer = not list(child.children())
            fits = weights >= _LEAST * size and isinstance(parent, _LISTS) if layer else weights <= _LARGEST * size
            called = type(child).forward is not nn.Module.forward  # lists of modules are not
            inside = Counter(_slots(child))
            if weights and fits and called and all(uses[p] == count for p, count in inside.items()):
                yield child
            elif weights:
                yield from below(child)

    return below(module)


def _slots(module: nn.Module) -> Iterator[nn.Parameter]:
    return (p for m in module.modules() for p in m._parameters.values() if p is not None)


def _held(module: nn.Module) -> list[_Slot]:
    """Every parameter of a module, with the part of it that has it, and its name there."""
    return [(m, name, p) for m in module.modules() for name, p in m._parameters.items() if p is not None]


class _Rows:
    """A forward hook that takes from the whole weights of a unit the rows of this process, which may have changed.

    What the unit returns is no view of another tensor: torch marks it as the place in the backward pass where it has to
    gather the weights again, and a view that is changed in place loses the mark.
    """

    def __init__(self) -> None:
        self.slots: list[_Slot] = []

    def __call__(self, unit: nn.Module, args: Any, output: Any) -> Any:
        with torch.no_grad():
            for module, name, own in self.slots:
                local(own).copy_(rows(module._parameters[name], own))  # type: ignore[arg-type]
        return tree_map_only(Tensor, lambda t: t.clone() if t._is_view() else t, output)


def _sharded(model: nn.Module, mesh: Any) -> Evaluated:
    """A copy of a model that shares its buffers, is cut unit by unit, and keeps what a forward pass does to weights."""
    from torch.distributed.fsdp import fully_shard

    params = list(model.parameters())
    same: dict[int, Any] = {id(t): t for t in chain(params, model.buffers())}
    whole, scalars = Evaluated(copy.deepcopy(model, same)), {p for p in params if p.ndim == 0}
    seen = set[nn.Parameter]()
    for unit in [*units(whole), whole]:
        hook = _Rows()
        unit.register_forward_hook(hook)  # before that of torch, which lets weights go
        fully_shard(unit, mesh=mesh, ignored_params=scalars)
        hook.slots = [slot for slot in _held(unit) if is_cut(slot[2]) and slot[2] not in seen]
        seen |= {p for _, _, p in hook.slots}
    return whole


def _twin(parameter: nn.Parameter, mesh: Any) -> nn.Parameter:
    """Another parameter with the rows of one; of a single number, which torch does not cut, each process has it."""
    from torch.distributed.tensor import DTensor, Replicate

    known = is_cut(parameter)
    own = local(parameter.detach())
    made = cut(own, parameter) if known else DTensor.from_local(own, mesh, [Replicate()], run_check=False)
    return nn.Parameter(made, parameter.requires_grad)


class CutShares(Shares):
    """Shares of a network that is cut over the processes, with its gradients and the state of its optimizer.

    A copy of the model is wrapped by `fully_shard`, shares its rows of the weights with `model` and its buffers, and is
    what the loss calls. `model` and `optimizer` have parameters that are cut, until `finish`.

    Zhao et al. 2023 (arXiv 2304.11277); Rajbhandari et al. 2020 (arXiv 1910.02054), section 5.3.

    Args:
        model: to be cut, on its device.
        optimizer: of it.
        parts: of a batch.
        world: of the processes.

    Raises:
        InputError: torch cannot cut this network.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, parts: int, world: World) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        self._model, self._optimizer, self._old = model, optimizer, _held(model)
        mesh = init_device_mesh(device_of(model).type, (world.size,))
        try:
            self._whole = _sharded(model, mesh)
        except (NotImplementedError, AssertionError, ValueError) as error:
            reason = one_line(error)
            raise InputError(f"trainer.strategy: fsdp cannot cut this network ({reason}); give exact") from error
        self._new: dict[nn.Parameter, nn.Parameter] = {}  # of a parameter as it was, that which is cut
        self._pairs: dict[nn.Parameter, nn.Parameter] = {}  # and of this one, that of the copy
        for (module, name, old), (_, _, twin) in zip(self._old, _held(self._whole.model), strict=True):
            if old not in self._new:
                self._new[old] = _twin(twin, mesh)
                self._pairs[self._new[old]] = twin
            module._parameters[name] = self._new[old]
        self._take_on(optimizer)
        for old, new in self._new.items():
            if self._pairs[new] is not old:
                old.data = old.new_empty(0)
        super().__init__(self._whole.model, list(self._new.values()), parts, world)
        self._moving = list(map(local, self._moving))
        self.share *= world.size  # torch divides by it

    def _take_on(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the optimizer the parameters that are cut, with what it has of their state."""
        state = {p: optimizer.state.pop(p) for p in self._new if p in optimizer.state}
        for group in optimizer.param_groups:
            group["params"] = [self._new.get(p, p) for p in group["params"]]
        for p, slots in state.items():
            new = self._new[p]
            fitting = {k: v for k, v in slots.items() if isinstance(v, Tensor) and v.shape == new.shape}
            optimizer.state[new] = slots | {k: cut(rows(v, new).clone(), new) for k, v in fitting.items()}
        try:
            first_states(optimizer)
        except (RuntimeError, NotImplementedError) as error:
            raise InputError(f"optimizer: {type(optimizer).__name__} {_ROWS}") from error

    def evaluate(self, loss: Loss[Any], batch: Batch) -> LossTerms:
        try:
            terms: LossTerms = self._whole(loss, batch)
        except RuntimeError as error:
            if _MIXED not in str(error):
                raise
            wanted = "is not allowed for a network that reads weights of a layer without calling it; give exact"
            raise InputError(f"trainer.strategy: fsdp {wanted}") from error
        return terms

    def _tree(self, backward: Callable[[int], None], first: int, step: int) -> None:
        with self._world.together(computing=True):
            for j in range(len(self.numbers)):
                backward(j)

    def _reduced(self, beside: Tensor) -> Tensor:
        owners, scalars = list[nn.Parameter](), list[Tensor]()
        for new, twin in self._pairs.items():
            new.grad, twin.grad = twin.grad, None
            if new.grad is not None and not is_cut(new.grad):
                owners.append(new)
                scalars.append(new.grad)
        if not scalars:
            every: Tensor = self._world.gather(beside[None])
            return every
        total, every = self._world.sum(torch.stack(scalars) / self._world.size, beside)
        for p, g in zip(owners, total, strict=True):
            p.grad = cut(g, p)
        return every

    def unite(self, values: Sequence[Tensor], signal: int) -> list[Tensor]:
        every = super().unite(values, signal)
        for ours, theirs in zip(self._model.buffers(), self.module.buffers(), strict=True):
            if ours is not theirs:  # the forward pass has put another one in its place
                ours.copy_(theirs)
        return every

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        once = gradients if self._world.first else [g for g in gradients if g.placements[0].is_shard()]  # type: ignore[attr-defined]
        own = super().norm([local(g) for g in once]) if once else local(gradients[0]).new_zeros(())
        squares: Tensor = self._world.gather(own.double().square()[None])
        return squares.sum().sqrt().to(gradients[0].dtype)

    def first(self, names: Sequence[str], own: str | None) -> str | None:
        place = len(names) if own is None else names.index(own)
        least = int(self._world.gather(torch.tensor([place], device=self._params[0].device)).min())
        return names[least] if least < len(names) else None

    def finish(self) -> None:
        """Give every process all weights, in the parameters of before; the optimizer has no state then."""
        unite(self._model)
        for module, name, old in self._old:
            now = module._parameters[name]
            if now is not old and now is not None:
                old.data = now.data
            module._parameters[name] = old
        former = {new: old for old, new in self._new.items()}
        for group in self._optimizer.param_groups:
            group["params"] = [former.get(p, p) for p in group["params"]]
        self._optimizer.state.clear()


def cut_over(
    world: World, settings: Settings, loss: Loss[Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> CutShares | None:
    """Cut a network over the processes, if that is asked for and there are several.

    Raises:
        InputError: something else that is asked for does not allow it.
    """
    if settings.strategy != "fsdp" or world.size == 1:
        return None
    cannot = "trainer.strategy: fsdp is not allowed with"
    for option in ("compile", "channels_last", "profile"):
        refuse(getattr(settings, option), f"{cannot} trainer.{option}=true; give {option}=false, or exact")
    refuse(loss.differentiates, f"{cannot} {type(loss).__name__}, which differentiates; give exact")
    device, types = device_of(model), sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters()})
    whole = len(types) == 1 and types[0] in ("float32", "float64")  # averages of others are of another type
    refuse(not whole, f"trainer.strategy: fsdp cannot cut weights of {' and '.join(types)}; give exact")
    alone = device.type == "cuda" and not world.own_device
    refuse(alone, "trainer.strategy: fsdp needs a CUDA device for each process; start fewer, or give exact")
    refuse(isinstance(optimizer, Muon | torch.optim.Muon), f"optimizer: {type(optimizer).__name__} {_ROWS}")
    return CutShares(model, optimizer, parts_of(settings, world), world)
