"""Numbers and names as people read them, the same in the report and in its summary on the command line."""

from __future__ import annotations

import math
from typing import Any

_TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

# Of a list among the settings, so many are shown.
MOST_ITEMS = 12


def power_of_ten(exponent: int) -> str:
    """Return e.g. "10⁻⁶"."""
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def number(value: float, digits: int = 3) -> str:
    """Return `value` with so many significant digits, "0.0342" or "12,300"; far from 1 with a power of ten."""
    if math.isnan(value):
        return "not finite"  # JSON's null stands for infinities and for what is not a number
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    power = int(exponent)
    if value != 0 and not -4 <= power < 7:
        factor = "" if mantissa == "1" else f"{mantissa}{_TIMES}"
        return factor + power_of_ten(power)
    decimals = 0 if value == int(value) else max(0, digits - 1 - power)
    return f"{value:,.{decimals}f}"


def percent(value: float, decimals: int = 2) -> str:
    """Return a percentage; 99.996% does not read "100.00%", for then no image may differ."""
    if not math.isfinite(value):
        return number(value)
    text = f"{value:.{decimals}f}"
    if value < 100 and float(text) == 100:
        text = f"{100 - 10.0**-decimals:.{decimals}f}"
    return f"{text}%"


def share(fraction: float) -> str:
    """Return a part of a bound, never rounded across it: "6%", "under 1%", "14.7 times"."""
    if not math.isfinite(fraction):
        return "beyond"
    if fraction <= 0:
        return "0%"
    if fraction < 0.01:
        return "under 1%"
    return f"{math.floor(100 * fraction + 1e-9)}%" if fraction <= 1 else f"{number(max(fraction, 1.01))} times"


def count(amount: int, singular: str, plural: str = "") -> str:
    """Return e.g. "1 image", "360 images"."""
    return f"{amount:,} {singular if amount == 1 else plural or singular + 's'}"


def seconds(value: float) -> str:
    """Return a duration, e.g. "0.15 s", "29 s", "12 min 5 s", "2 h 3 min"."""
    if not math.isfinite(value) or value < 60:
        return f"{number(value, 2)} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def shorten(text: str, longest: int) -> str:
    """Return `text`, its middle left out if it is longer: names of files differ at their ends."""
    if len(text) <= longest:
        return text
    head = (longest - 1) // 3
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def setting(value: Any) -> str:
    """Return a setting of a recipe or an argument of a network."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {setting(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        shown = ", ".join(setting(item) for item in value[:MOST_ITEMS]) or "none"
        return shown if len(value) <= MOST_ITEMS else f"{shown}, … ({len(value):,} in all)"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def moment(iso: str) -> str:
    """Return an ISO time, "2026-11-23T18:37:27+00:00", as "2026-11-23 18:37 UTC"; what is none stays as it is."""
    date, letter, time = iso.partition("T")
    return f"{date} {time[:5]} UTC" if letter and time.endswith(("+00:00", "Z")) else iso
