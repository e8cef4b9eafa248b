"""What is known about a foreign network, and from where: its weights, the user, or a default."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from scoresde.errors import InputError


class Given(NamedTuple):
    """A value that was given by the user or by a configuration.

    Attributes:
        value: plain.
        name: the key under which it was given, for messages.
        firm: whether it was given on purpose; otherwise the weights silently win.
    """

    value: Any
    name: str
    firm: bool = True


class Facts:
    """Values by name; what the weights say wins, and what was given on purpose must not contradict it.

    Args:
        given: by the name that this project has for it, such as `channels`.

    Attributes:
        inferred: values that follow from the weights.
        used: given values that were asked for.
        assumed: defaults that were asked for.
    """

    def __init__(self, given: Mapping[str, Given]) -> None:
        self.given = dict(given)
        self.inferred: dict[str, Any] = {}
        self.used: dict[str, Any] = {}
        self.assumed: dict[str, Any] = {}

    def infer(self, key: str, value: Any, source: str) -> Any:
        """Record a value that follows from the weights.

        Raises:
            InputError: another one was given on purpose.
        """
        given = self.given.get(key)
        if given is not None and given.firm and _plain(given.value) != _plain(value):
            raise InputError(f"{given.name}: {given.value!r} was given, but by the weights it is {value!r} ({source})")
        self.inferred[key] = _plain(value)
        return value

    def need(self, key: str, remedy: str) -> Any:
        """The value from the weights or the user.

        Raises:
            InputError: there is none.
        """
        if key not in self.given and key not in self.inferred:
            raise InputError(f"{key}: cannot be inferred from the weights; {remedy}")
        return self.get(key, None)

    def get(self, key: str, default: Any) -> Any:
        """The value from the weights or the user, or else the default."""
        if key in self.inferred:
            return self.inferred[key]
        if key in self.given:
            self.used[key] = _plain(self.given[key].value)
            return self.given[key].value
        self.assumed[key] = _plain(default)
        return default


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
