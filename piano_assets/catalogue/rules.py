"""What every part of a trial must keep, whatever it means: declared types, finite numbers, one spelling of a value."""

import dataclasses
import math
import types
import typing
from typing import Any

_WORDS = {int: "an integer", float: "a number", str: "text", bool: "true or false", tuple: "a list", type(None): "none"}


class IllegalTrial(ValueError):
    """A field whose value breaks a rule; the message names the field, the rule and the value."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise IllegalTrial(message)


def conform(node: Any, prefix: str = "") -> None:
    """Hold a frozen dataclass to its declared types, and spell equal values alike, so that equal trials hash equal.

    Whole numbers become reals where reals are declared, settings are sorted by name.

    Raises:
        IllegalTrial: a value of another type, or a number that is not finite.
    """
    for field in dataclasses.fields(node):
        value, where = getattr(node, field.name), f"{prefix}{field.name}"
        kinds = _kinds(field.type)
        if float in kinds and type(value) is int:
            value = float(value)
            object.__setattr__(node, field.name, value)
        fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        require(fits, f"{where}={value!r} must be {' or '.join(_WORDS.get(k, k.__name__) for k in kinds)}")
        if field.name == "settings":
            require(all(isinstance(v, tuple) and len(v) == 2 for v in value), f"{where}={value!r} must be named values")
            for name, setting in value:
                require(isinstance(setting, str | int | float), f"{where}.{name}={setting!r} must be text or a number")
                _require_finite(f"{where}.{name}", setting)
            object.__setattr__(node, field.name, tuple(sorted(value)))
        _require_finite(where, value)


def _require_finite(where: str, value: Any) -> None:
    require(not isinstance(value, float) or math.isfinite(value), f"{where}={value!r} must be finite")


def _kinds(declared: Any) -> tuple[type, ...]:
    parts = typing.get_args(declared) if isinstance(declared, types.UnionType) else (declared,)
    return tuple(typing.get_origin(p) or p for p in parts)
