"""A repr that rebuilds: the constructor's arguments, read from attributes of the same names."""

import inspect
from pathlib import PurePath


class Rebuildable:
    """An object whose constructor stores each argument under its name; `eval(repr(x))` makes an equal one."""

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        shown = (f"{k}={(str(v) if isinstance(v, PurePath) else v)!r}" for k, v in values.items())
        return f"{type(self).__name__}({', '.join(shown)})"
