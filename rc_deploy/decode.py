"""From JSON to frozen records: each value is held against the record's annotations, none is trusted.

Annotations are read when the program runs: a record's module imports what they name outside `TYPE_CHECKING`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")

_NAMES: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    dict: "an object",
    list: "a list",
}
# Longest text that is shown; a longer one is cut, so that a damaged document cannot make a report of megabytes.
LONGEST_TEXT = 2000
DEEPEST = 8
LARGEST_WHOLE = 2**63 - 1


class FormError(ValueError):
    """A value is not what its record says; the message names where it stands in the document."""


def parse(text: Any) -> Any:
    """Return what a JSON text says. Raises FormError where it is no text, no JSON, or nested too deep to be read."""
    content = _expect(str, text, "")
    try:
        return json.loads(content)
    except ValueError as error:
        raise FormError(f"it is not valid JSON: {error}") from None
    except RecursionError:
        raise FormError("it is nested too deep") from None


def decode(cls: type[Record], value: Any) -> Record:
    """Return the record `cls` that a JSON object holds; keys that the record does not have are ignored.

    Understands what JSON can hold: str, int, float, bool, None, enumerations of str, unions with None, tuples, lists,
    dicts by str, further dataclasses, and Any for settings. JSON has no infinity: `files.json_text` writes null for a
    number that is not finite, so null reads as not a number where a float is due. A record that needs finite numbers
    says so in its `__post_init__`.

    Raises:
        FormError: a key is missing, or a value has another type or is refused by the record.
    """
    record: Record = _decode(cls, value, "")
    return record


def _decode(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        _require_shallow(value, where)
        return value
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return None if value is None else _decode(inner, value, where)
    if origin is dict:
        items = _expect(dict, value, where).items()
        return {key: _decode(arguments[1], item, f"{where}.{clean(key)}") for key, item in items}
    if origin in (tuple, list):
        return origin(_sequence(arguments, _expect(list, value, where), where))
    if issubclass(kind, Enum):
        return _member(kind, _expect(str, value, where), where)
    return _scalar(kind, value, where)


def _record(cls: Any, value: Any, where: str) -> Any:
    document = _expect(dict, value, where)
    hints = get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        place = f"{where}.{field.name}".lstrip(".")
        if field.name in document:
            found[field.name] = _decode(hints[field.name], document[field.name], place)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise FormError(f"'{place}' is missing")
    try:
        return cls(**found)
    except FormError:
        raise
    except ValueError as error:
        raise FormError(f"'{where}': {error}" if where else str(error)) from None


def _sequence(arguments: tuple[Any, ...], values: list[Any], where: str) -> list[Any]:
    if len(arguments) == 1 or arguments[-1] is Ellipsis:
        kinds = [arguments[0]] * len(values)
    elif len(arguments) == len(values):
        kinds = list(arguments)
    else:
        raise FormError(f"'{where}' must hold {len(arguments)} values, not {len(values)}")
    return [
        _decode(kind, value, f"{where}[{index}]") for index, (kind, value) in enumerate(zip(kinds, values, strict=True))
    ]


def _member(kind: type[Enum], value: str, where: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(str(member.value) for member in kind)
        raise FormError(f"'{where}' is '{clean(value)}', not one of {allowed}") from None


def _scalar(kind: type, value: Any, where: str) -> Any:
    if value is None and kind is float:
        return math.nan
    if type(value) is int and kind in (int, float):
        if abs(value) > LARGEST_WHOLE:
            raise FormError(f"'{where}' is too large a number")
        return kind(value)
    return _expect(kind, value, where)


def _expect(kind: type, value: Any, where: str) -> Any:
    # Not isinstance: true is an int to Python, and never a count to a document.
    if type(value) is not kind:
        name = _NAMES.get(type(value), type(value).__name__)
        raise FormError(f"'{where or 'the document'}' is {name} where {_NAMES[kind]} belongs")
    return value


def _require_shallow(value: Any, where: str, depth: int = 0) -> None:
    """Raise FormError where a setting is nested too deep to be written, copied or shown."""
    if depth > DEEPEST:
        raise FormError(f"'{where}' is nested too deep")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _require_shallow(item, where, depth + 1)


def cleaned(value: Any, depth: int = 0) -> Any:
    """Return a document with every text in it `clean`. Raises FormError where it is nested too deep."""
    if depth > 2 * DEEPEST:  # settings may be DEEPEST below the record that holds them
        raise FormError("it is nested too deep")
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [cleaned(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {clean(key): cleaned(item, depth + 1) for key, item in value.items()}
    return value


def clean(text: str) -> str:
    """Return `text` in one line without what cannot be printed.

    Control characters, lone surrogates and marks that reorder the text around them (U+202E and its like) would
    make a page that cannot be encoded, or that reads otherwise than it is.
    """
    letters = (" " if letter.isspace() else letter for letter in text[: LONGEST_TEXT + 1])
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in letters)
    return printable if len(printable) <= LONGEST_TEXT else printable[:LONGEST_TEXT] + "…"
