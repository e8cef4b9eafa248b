"""Cards: what decides the values of a metric besides the samples, such as the features and the reference."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from scoresde.errors import refuse

Card = Mapping[str, Any]
_DRAWN = "one for each seed"
_MISSING = "nothing"


def shared(cards: Sequence[Card]) -> dict[str, Any]:
    """One card of several repetitions; a field in which they differ says that there is one for each seed."""
    return {k: v if all(card.get(k) == v for card in cards) else _DRAWN for k, v in cards[0].items()} if cards else {}


def require_same(key: str, one: Card | None, other: Card | None, places: tuple[str, str]) -> None:
    """Raise InputError if values of these two cards of a quantity may not stand side by side, and say in which field.

    What was written without cards is not known to differ.
    """
    for name in dict.fromkeys([*one, *other]) if one and other else ():
        a, b = ((card or {}).get(name, _MISSING) for card in (one, other))
        said = f"{name} is {_brief(a)} in {places[0]} and {_brief(b)} in {places[1]}"
        remedy = "these are not put side by side; measure both in the same way"
        refuse(a != b, f"{key}: cards differ: {said}; {remedy}")


def _brief(value: Any) -> str:
    return str(value)[:80]


def html(cards: Mapping[str, Card], headings: Mapping[str, str]) -> str:
    """The cards as tables, each under the headings of the quantities that have it."""
    known = {heading: cards[key] for key, heading in headings.items() if key in cards}
    return "".join(
        f"<p><b>{escape(', '.join(names))}</b></p><dl>{_fields(card)}</dl>" for names, card in grouped(known)
    )


def _fields(card: Card) -> str:
    return "".join(f"<dt>{escape(k.replace('_', ' '))}</dt><dd>{escape(str(v))}</dd>" for k, v in card.items())


def grouped(cards: Mapping[str, Card]) -> Iterable[tuple[list[str], Card]]:
    """Each different card once, with the quantities that have it."""
    found: dict[str, tuple[list[str], Card]] = {}
    for key, card in cards.items():
        found.setdefault(repr(sorted(card.items())), ([], card))[0].append(key)
    return found.values()
