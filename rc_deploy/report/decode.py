"""From JSON values to frozen records: each value is held against the record's annotations, none is trusted."""

from __future__ import annotations

import dataclasses
import types
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
# Longest text a report shows; a longer one is cut, so that a damaged document cannot make a report of megabytes.
LONGEST_TEXT = 2000
DEEPEST = 8
LARGEST_WHOLE = 2**63 - 1


class FormError(ValueError):
    """A value is not what its record says; the message names where it stands in the document."""


def decode(cls: type[Record], value: Any) -> Record:
    """Return the record `cls` that a JSON object holds; keys that the record does not have are ignored.

    Understands what JSON can hold: str, int, float, bool, None, unions with None, tuples, lists, dicts by str,
    further dataclasses, and Any for settings that are only ever shown.

    Raises:
        FormError: a key is missing, or a value has another type or is refused by the record.
    """
    record: Record = _decode(cls, value, "")
    return record


def _decode(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return _plain(value, where)
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return None if value is None else _decode(inner, value, where)
    if origin is dict:
        items = _expect(dict, value, where).items()
        return {clean(key): _decode(arguments[1], item, f"{where}.{clean(key)}") for key, item in items}
    if origin in (tuple, list):
        return origin(_sequence(arguments, _expect(list, value, where), where))
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


def _scalar(kind: type, value: Any, where: str) -> Any:
    if type(value) is int and kind in (int, float):
        if abs(value) > LARGEST_WHOLE:
            raise FormError(f"'{where}' is too large a number")
        return kind(value)
    found = _expect(kind, value, where)
    return clean(found) if kind is str else found


def _expect(kind: type, value: Any, where: str) -> Any:
    # Not isinstance: true is an int to Python, and never a count to a document.
    if type(value) is not kind:
        name = _NAMES.get(type(value), type(value).__name__)
        raise FormError(f"'{where or 'the document'}' is {name} where {_NAMES[kind]} belongs")
    return value


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """Return a setting of any type with its texts cleaned."""
    if depth > DEEPEST:
        raise FormError(f"'{where}' is nested too deep")
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_plain(item, where, depth + 1) for item in value]
    if isinstance(value, dict):
        return {clean(key): _plain(item, where, depth + 1) for key, item in value.items()}
    return value


def clean(text: str) -> str:
    """Return `text` in one line without what cannot be printed.

    Control characters, lone surrogates and marks that reorder the text around them (U+202E and its like) would
    make a page that cannot be encoded, or that reads otherwise than it is.
    """
    letters = (" " if letter.isspace() else letter for letter in text[: LONGEST_TEXT + 1])
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in letters)
    return printable if len(printable) <= LONGEST_TEXT else printable[:LONGEST_TEXT] + "…"
