"""Configurations without secrets, for files and for Weights & Biases."""

import os
import re
from collections.abc import Mapping
from typing import Any

REMOVED = "(removed)"
_KEY = re.compile(r"(^|_)(api_?key|password|passwd|secret|token|credentials?)$", re.IGNORECASE)
_VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$")


def without_secrets(cfg: Any) -> Any:
    """A copy of plain values in which passwords and keys are replaced by "(removed)", at any depth.

    They are known by the key that they stand under (a number is none), or because they are, or contain, the value of
    an environment variable with such a name.
    """
    known = [v for k, v in os.environ.items() if _VARIABLE.search(k.upper()) and len(v) >= 8]

    def clean(value: Any, key: str = "") -> Any:
        if value and not isinstance(value, int | float) and _KEY.search(key):
            return REMOVED
        if isinstance(value, Mapping):
            return {k: clean(v, str(k)) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [clean(v) for v in value]
        return REMOVED if isinstance(value, str) and any(k in value for k in known) else value

    return clean(cfg)
