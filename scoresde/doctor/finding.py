"""The result of one check."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: what was looked at.
        verdict: ok, warning (it works, but could be better) or wrong.
        message: what was found, in words.
        remedy: what to change; empty if the verdict is ok.
        value: the quantity behind the verdict, if there is one.
    """

    check: str
    verdict: Verdict
    message: str
    remedy: str = ""
    value: float | None = None
