"""Configurations without secrets, for files and for Weights & Biases."""

import os
import re
from collections.abc import Sequence
from typing import Any

from scoresde.plain import each

REMOVED = "(removed)"
_KEY = re.compile(r"(^|_)(api_?key|password|passwd|secret|token|credentials?)$", re.IGNORECASE)
_VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$")


def without_secrets(cfg: Any) -> Any:
    """A copy of plain values in which passwords and keys are replaced by "(removed)", at any depth.

    They are known by the key that they stand under (a number is none), or because they are, or contain, the value of
    an environment variable with such a name.
    """
    known = [v for k, v in os.environ.items() if _VARIABLE.search(k.upper()) and len(v) >= 8]
    return _cleaned(cfg, "", known)


def _cleaned(value: Any, key: str, known: Sequence[str]) -> Any:
    by_key = value and not isinstance(value, int | float) and _KEY.search(key)
    if by_key or (isinstance(value, str) and any(secret in value for secret in known)):
        return REMOVED
    return each(value, lambda item, name: _cleaned(item, name, known))
