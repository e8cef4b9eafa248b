"""What is known about a foreign network, and from where: its weights, the person at the keyboard, or a custom."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from scoresde.errors import InputError

Origin = Literal["inferred", "given", "assumed"]


class Given(NamedTuple):
    """A value that somebody has given.

    Attributes:
        value: plain.
        name: what it is called where it was given, for messages.
        firm: whether it was given on purpose; others give way to what the weights tell.
    """

    value: Any
    name: str
    firm: bool = True


class Fact(NamedTuple):
    """A value with its origin and what it was taken from."""

    value: Any
    origin: Origin
    source: str


class Facts:
    """Values by name, each with its origin; weights win over what was given, and contradict it aloud.

    Args:
        given: by the name that this project has for it, such as `channels`.
    """

    def __init__(self, given: Mapping[str, Given]) -> None:
        self._given = dict(given)
        self.rows: dict[str, Fact] = {}

    def infer(self, key: str, value: Any, source: str) -> Any:
        """Note a value that the weights tell.

        Raises:
            InputError: another one was given on purpose.
        """
        given = self._given.get(key)
        if given is not None and given.firm and _plain(given.value) != _plain(value):
            shown = "they are not there" if value is None else f"it is {value!r}"
            raise InputError(f"{given.name}: {given.value!r} was given, but by the weights {shown} ({source})")
        return self._note(key, Fact(value, "inferred", source))

    def need(self, key: str, remedy: str) -> Any:
        """The value that the weights told or that was given.

        Raises:
            InputError: there is none.
        """
        if key not in self._given and key not in self.rows:
            raise InputError(f"{key}: the weights do not tell it; {remedy}")
        return self.get(key, None, "")

    def get(self, key: str, default: Any, source: str) -> Any:
        """The value that the weights told or that was given, or else the usual one."""
        if key in self.rows:
            return self.rows[key].value
        given = self._given.get(key)
        if given is None:
            return self._note(key, Fact(default, "assumed", source))
        return self._note(key, Fact(given.value, "given", given.name))

    def given(self, key: str) -> Given | None:
        """What was given, if anything."""
        return self._given.get(key)

    def by_origin(self, origin: Origin) -> dict[str, Any]:
        """The values of one origin."""
        return {key: _plain(fact.value) for key, fact in self.rows.items() if fact.origin == origin}

    def _note(self, key: str, fact: Fact) -> Any:
        self.rows[key] = fact
        return fact.value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
