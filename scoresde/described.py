"""The inverse of `build`: the configuration of an object, `{_target_: scoresde.VPSDE, beta_min: 0.1, ...}`."""

import importlib
import itertools
import math
from collections.abc import Mapping
from pathlib import PurePath
from types import NoneType
from typing import Any, Self

from scoresde.constraints import Checked, parameters, signature
from scoresde.errors import TARGET, InputError, require
from scoresde.plain import each, join

RUNTIME = ("event_shape", "names", "sde", "net", "params", "run")  # what programs supply; see `scoresde.build.build`


class Described(Checked):
    """Base of classes that do not keep each constructor argument under its own name."""

    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments, except those that programs supply."""
        self = super().__new__(cls, *args, **kwargs)
        given = signature(cls).bind_partial(*args, **kwargs)
        given.apply_defaults()
        object.__setattr__(self, "_arguments", {k: v for k, v in given.arguments.items() if k not in RUNTIME})
        return self


class Rebuildable(Checked):
    """An object whose constructor stores each argument under its name; `eval(repr(x))` makes an equal one."""

    def __repr__(self) -> str:
        values = {name: _argument(self, name, name) for name in parameters(type(self))}
        shown = (f"{k}={(str(v) if isinstance(v, PurePath) else v)!r}" for k, v in values.items())
        return f"{type(self).__name__}({', '.join(shown)})"


def describe(obj: Any, path: str = "") -> Any:
    """The configuration from which `build` makes an equal object.

    An object becomes a mapping of `_target_` and every constructor argument, except those that programs supply (see
    `scoresde.build`). The value of an argument is the attribute of that name; of optimizers, the default of that name;
    of a class derived from `Described`, what it was constructed with. Lists and mappings are described item by item.

    Args:
        obj: a plain value, a list or a mapping of objects, or an object of a class at the top of a module.
        path: where the description stands in a configuration; error messages begin with it.

    Raises:
        InputError: a value that no configuration can hold, or an argument that the object does not keep.
    """
    if isinstance(obj, NoneType | bool | int | str):
        return obj
    if isinstance(obj, float):
        require(math.isfinite(obj), path or "value", obj, "give a finite number")
        return float(obj)
    if isinstance(obj, PurePath):
        return str(obj)
    if isinstance(obj, Mapping | list):
        return each(obj, lambda value, key: describe(value, join(path, key)))
    if isinstance(obj, tuple):
        return describe(list(obj), path)
    if hasattr(obj, "tolist"):  # an array or a tensor
        return describe(obj.tolist(), path)
    return _describe_object(obj, path)


def _describe_object(obj: Any, path: str) -> dict[str, Any]:
    cls = type(obj)
    target = public_name(cls)
    if target is None:
        where = f"{cls.__module__}.{cls.__qualname__}"
        raise InputError(f"{path or 'object'}: {where} cannot be imported by its name; define the class in a module")
    paths = {name: join(path, name) for name in parameters(cls) if name == "net" or name not in RUNTIME}
    return {TARGET: target, **{name: describe(_argument(obj, name, at), at) for name, at in paths.items()}}


def _argument(obj: Any, name: str, path: str) -> Any:
    """What the constructor was given for one parameter."""
    for kept in (getattr(obj, "_arguments", {}), getattr(obj, "defaults", {})):
        if isinstance(kept, Mapping) and name in kept:
            return kept[name]
    try:
        return getattr(obj, name)
    except AttributeError:
        cls = type(obj).__name__
        raise InputError(
            f"{path}: {cls} does not keep this argument; derive it from scoresde.Described, or set self.{name}"
        ) from None


def public_name(cls: type[Any]) -> str | None:
    """The shortest dotted name under which a class can be imported; None for a class in a function or a script."""
    for name in itertools.accumulate(cls.__module__.split("."), "{}.{}".format):
        module = importlib.import_module(name)
        public = name == cls.__module__ or cls.__name__ in getattr(module, "__all__", ())
        if public and name != "__main__" and getattr(module, cls.__name__, None) is cls:
            return f"{name}.{cls.__name__}"
    return None
