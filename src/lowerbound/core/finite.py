"""What JSON has no words for."""

import math
from collections.abc import Mapping
from typing import Any


def finite(value: Any) -> Any:
    """Return a value for JSON, with None in place of numbers that are not finite, however deep.

    >>> finite({"se": float("nan"), "each": (1.0, float("inf"))})
    {'se': None, 'each': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
