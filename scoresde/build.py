"""Objects from plain mappings: `{_target_: scoresde.VPSDE, beta_min: 0.1}` becomes `VPSDE(beta_min=0.1)`.

The one place where a name in a configuration becomes a class. A configuration may come from somebody else, so a name
is resolved without importing anything but scoresde, the layers and optimizers of torch, and the packages that the
user allows; and every value is checked against the annotations of its constructor before anything
is made. Imports pydantic and torch only when used.
"""

import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from scoresde.constraints import accepts_none, checked, classes, hints, of_items, parameters, signature
from scoresde.described import RUNTIME
from scoresde.errors import TARGET, InputError, did_you_mean, refuse
from scoresde.plain import each, join

__all__ = ["MEASURED", "RUNTIME", "TARGET", "build", "check", "did_you_mean", "resolve", "within"]

MEASURED = "measured"  # in place of a number that is measured on the data
_TORCH = ("torch.nn", "torch.optim")
_PLAIN = (type(None), bool, int, float, str, list, tuple, Mapping)


@dataclass(frozen=True)
class _Plan:
    """A class and its arguments, all checked; arguments may hold further plans."""

    cls: type
    path: str
    arguments: dict[str, Any]


def build(cfg: Any, path: str = "", allow: Sequence[str] = (), expect: Any = None, **runtime: Any) -> Any:
    """Construct what `cfg` describes.

    A mapping with `_target_` becomes an object of that class, other mappings and lists are passed through with what
    they hold built; an empty mapping where an object may be None is None (the empty YAML of an option `none`).

    Args:
        cfg: plain values, lists and mappings; an object that is already built stands for itself.
        path: where `cfg` stands in the configuration; error messages begin with it.
        allow: packages whose classes may be named besides those of scoresde, `torch.nn` and `torch.optim`.
        expect: the class of the result; `Class | None` where it may be None.
        runtime: objects for constructor parameters of these names that the configuration leaves out, at any depth.

    Raises:
        InputError: one line that begins with the dotted path of what cannot be used.
    """
    return _construct(_Checker(_packages(allow), frozenset(runtime)).plan(cfg, path, expect or Any), runtime)


def check(
    cfg: Any, path: str = "", allow: Sequence[str] = (), expect: Any = None, runtime: Iterable[str] = RUNTIME
) -> None:
    """Raise what `build` would raise before its first constructor call: wrong names, keys and types.

    With `MEASURED` among the names in `runtime` this word may stand in place of any value.
    """
    _Checker(_packages(allow), frozenset(runtime)).plan(cfg, path, expect or Any)


def resolve(target: str, path: str = "", allow: Sequence[str] = ()) -> type:
    """The class that `target` names, if it may be named; nothing outside the allowed packages is imported.

    Raises:
        InputError: for a name that is not allowed or not there, and for what is not a class.
    """
    where = join(path, TARGET)
    packages = _packages(allow)
    dotted = _is_name(target) and "." in target
    refuse(not dotted, f"{where}: {target!r} is not the dotted name of a class, such as scoresde.VPSDE")
    if not within(target, ("scoresde", *_TORCH, *packages)):
        package = target.split(".")[0]
        own = package not in sys.stdlib_module_names and package != "torch"
        hint = f", or, if you trust the package, add allow=[{package}]" if own else ""
        raise InputError(f"{where}: {target} is not allowed; give a class of scoresde, torch.nn or torch.optim{hint}")
    if not isinstance(found := _lookup(target, where), type):
        raise InputError(f"{where}: {target} is not a class; give the name of a class")
    home = found.__module__
    allowed = within(home, ("scoresde", *packages)) or (within(home, _TORCH) and _of_torch(found))
    refuse(not allowed, f"{where}: {target} is {home}.{found.__qualname__}, which is not allowed")
    return found


def within(name: str, parents: Iterable[str]) -> bool:
    """Whether a dotted name is one of `parents`, or in one of them."""
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def _of_torch(cls: type) -> bool:
    import torch

    return issubclass(cls, torch.nn.Module | torch.optim.Optimizer)


def _packages(allow: Any) -> tuple[str, ...]:
    names = (allow,) if isinstance(allow, str) else tuple(allow or ())
    for name in names:
        refuse(not _is_name(name), f"allow: {name!r} is not the name of a package; write allow=[mypackage]")
    return names


def _is_name(name: Any) -> bool:
    """Whether it is a name, or several with dots between them."""
    return isinstance(name, str) and all(map(str.isidentifier, name.split(".")))


def _lookup(target: str, where: str) -> Any:
    """Import as much of the dotted name as is modules, then follow attributes."""
    found: Any = None
    for name in itertools.accumulate(target.split("."), "{}.{}".format):
        home, _, last = name.rpartition(".")
        if found is not None and hasattr(found, last):
            found = getattr(found, last)
            continue
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):  # the module is there, and what it imports is not
                raise InputError(f"{where}: {name} needs {error.name}, which is not installed") from error
            if found is None:
                nowhere = f"there is no module {name} in {Path.cwd()}, and none is installed"
                raise InputError(f"{where}: {nowhere}") from None
            near = did_you_mean(last, dir(found), home + ".")
            raise InputError(f"{where}: {home} has no {last}{near}") from None
    return found


@dataclass(frozen=True)
class _Checker:
    """Checks a configuration against the constructors that it names.

    Attributes:
        allow: packages whose classes may be named.
        runtime: names of the constructor parameters that it may leave out.
    """

    allow: tuple[str, ...]
    runtime: frozenset[str]

    def plan(self, cfg: Any, path: str, annotation: Any = Any, other: type = object) -> Any:
        """What to construct: mappings with `_target_` become plans, and other values are as the annotation asks.

        Where the annotation says nothing, `other` is the class that may stand there.
        """
        if _is_built(cfg, annotation) or self._is_measured(cfg):
            return cfg
        if isinstance(cfg, Mapping) and TARGET in cfg:
            return self._plan_object(cfg, path, classes(annotation) or (other,))
        if isinstance(cfg, Mapping) and not cfg and accepts_none(annotation):
            return None
        if _holds_object(cfg) and _may_hold(classes(annotation), cfg):
            return each(cfg, lambda value, key: self.plan(value, join(path, key), of_items(annotation), other))
        return cfg if annotation is Any else checked(cfg, path, annotation)

    def _is_measured(self, cfg: Any) -> bool:
        return isinstance(cfg, str) and cfg == MEASURED and MEASURED in self.runtime

    def _plan_object(self, cfg: Mapping[str, Any], path: str, wanted: tuple[type, ...]) -> _Plan:
        target, where = cfg[TARGET], join(path, TARGET)
        cls = resolve(target, path, self.allow)
        kinds = " or ".join("plain value" if kind is NoneType else kind.__name__ for kind in wanted)
        refuse(not issubclass(cls, wanted), f"{where}: {target} is no {kinds}")
        refuse(inspect.isabstract(cls), f"{where}: {target} is abstract; name one of its subclasses")
        own = {key: value for key, value in cfg.items() if key != TARGET}
        self._check_names(cls, target, own, path)
        annotations, other = hints(cls), _other(cls)
        plans = {k: self.plan(v, join(path, k), annotations.get(k, Any), other) for k, v in own.items()}
        return _Plan(cls, path, plans)

    def _check_names(self, cls: type, target: str, given: Mapping[str, Any], path: str) -> None:
        """Raise InputError unless the constructor has every given argument, and every one that it needs is there."""
        named = parameters(cls)
        if not any(p.kind is p.VAR_KEYWORD for p in signature(cls).parameters.values()):
            for key in sorted(given.keys() - named):
                near = did_you_mean(key, named, join(path, "")) or f"; it has {', '.join(sorted(named)) or 'none'}"
                raise InputError(f"{join(path, key)}: {target} has no such argument{near}")
        needed = {k for k, p in named.items() if p.default is p.empty} - given.keys() - self.runtime
        if needed:
            raise InputError(f"{join(path, min(needed))}: not given, and {target} needs it")


def _is_built(cfg: Any, annotation: Any) -> bool:
    return not isinstance(cfg, _PLAIN) and isinstance(cfg, classes(annotation))


def _other(cls: type) -> type:
    """What a constructor takes where its annotations say nothing: no object, a layer, or what the user knows."""
    if within(cls.__module__, ("scoresde",)):
        return NoneType
    if not within(cls.__module__, _TORCH):
        return object
    from torch import nn

    return nn.Module


def _may_hold(wanted: tuple[type, ...], cfg: Any) -> bool:
    """Whether a list or a mapping may stand where one of these classes is wanted."""
    kind = Mapping if isinstance(cfg, Mapping) else Sequence
    return not wanted or any(issubclass(cls, kind) for cls in wanted)


def _holds_object(cfg: Any) -> bool:
    """Whether a list or a mapping names a class, or has an object in it, at any depth."""
    if not isinstance(cfg, Mapping | list | tuple):
        return False
    items = list(cfg.values() if isinstance(cfg, Mapping) else cfg)
    return TARGET in cfg or any(_holds_object(item) or not isinstance(item, _PLAIN) for item in items)


def _construct(plan: Any, runtime: Mapping[str, Any]) -> Any:
    if not isinstance(plan, _Plan):
        return each(plan, lambda item, _: _construct(item, runtime))
    named = parameters(plan.cls)
    supplied = {name: runtime[name] for name in named if name in runtime}
    arguments = supplied | {key: _construct(value, runtime) for key, value in plan.arguments.items()}
    try:
        return plan.cls(**arguments)
    except ValueError as error:
        message = " ".join(str(error).split())
        about = re.match(r"(\w+)[\w.]*:", message)  # the name of an argument, or something about the object as a whole
        if message.startswith(f"{plan.path}: "):  # it says itself where it stands
            raise InputError(message) from error
        glue = "." if about and about[1] in named else ": "
        raise InputError(f"{plan.path}{glue}{message}".lstrip(".: ")) from error
