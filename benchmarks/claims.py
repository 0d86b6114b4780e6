"""What only a GPU can prove: the claims of claims.toml, and the records of benchmarks/results that bear on them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rc_deploy.decode import FormError, decode

CLAIMS = Path(__file__).with_name("claims.toml")


class ClaimError(ValueError):
    """A claim is not written as it must be; says which and why."""


@dataclass(frozen=True)
class Training:
    """What runs of a recipe reached, as `make gpu-train` records it.

    Attributes:
        recipe: as it is, without changes.
        value: "last", the mean accuracy after the last epoch in percent, or "seconds" of a run.
        seeds: that there must be at least.
    """

    recipe: str
    value: str
    seeds: int


@dataclass(frozen=True)
class Claim:
    """One claim, and where its proof is looked for.

    Attributes:
        claim: what is claimed.
        command: that proves it; empty where there is none yet.
        meanwhile: what is shown of it without a GPU.
        parts: of `make gpu-check` that must have run.
        tests: a regular expression; those of the parts' tests that it matches from their name's beginning on prove it.
        figures: of what the part measured: keys one inside the other, in which * stands for anything. A list of numbers
            counts as its median.
        training: what was reached by runs of a recipe, in the parts' place.
        at_least: that every figure must reach; None where nothing is claimed of it.
        at_most: that no figure may exceed; None likewise.
        scale: that figures are multiplied by.
        unit: of them then.
        readme: what the figure is called in README.md; empty where it does not stand there.
    """

    claim: str
    command: str = ""
    meanwhile: str = ""
    parts: tuple[str, ...] = ()
    tests: str = ""
    figures: tuple[tuple[str, ...], ...] = ()
    training: Training | None = None
    at_least: float | None = None
    at_most: float | None = None
    scale: float = 1.0
    unit: str = ""
    readme: str = ""

    def __post_init__(self) -> None:
        if bool(self.command) != bool(self.parts or self.training):
            raise ValueError("a command belongs to parts or training that it runs, and these to a command")
        if (self.tests or self.figures) and not self.parts:
            raise ValueError("tests and figures are those of parts")


def load(path: Path = CLAIMS) -> list[Claim]:
    """Return the claims in their order; one with `each.WORD` once for each of its values, put in place of {WORD}.

    Raises:
        ClaimError: one of them has keys that are not known, or lacks what it must have.
    """
    found = []
    for number, entry in enumerate(tomllib.loads(path.read_text(encoding="utf-8"))["claim"], 1):
        for expanded in _expanded(entry):
            unknown = sorted(set(expanded) - {field.name for field in fields(Claim)})
            if unknown:
                raise ClaimError(f"{path.name}: claim {number} has {', '.join(unknown)}, which `Claim` does not know.")
            try:
                found.append(decode(Claim, expanded))
            except (FormError, ValueError) as error:
                raise ClaimError(f"{path.name}: claim {number}: {error}.") from None
    return found


def _expanded(entry: dict[str, Any]) -> list[dict[str, Any]]:
    rest = {key: value for key, value in entry.items() if key != "each"}
    each: dict[str, list[str]] = entry.get("each", {})
    if not each:
        return [rest]
    ((word, values),) = each.items()
    return [_put(rest, f"{{{word}}}", value) for value in values]


def _put(value: Any, word: str, instead: str) -> Any:
    if isinstance(value, dict):
        return {key: _put(inner, word, instead) for key, inner in value.items()}
    if isinstance(value, list):
        return [_put(inner, word, instead) for inner in value]
    return value.replace(word, instead) if isinstance(value, str) else value
