"""The recipe: everything that decides what a training run does, read from TOML and checked key by key."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc_deploy.errors import InputError
from rc_deploy.files import require_file
from rc_training.augment import AUGMENTATIONS
from rc_training.blocks import ACTIVATIONS
from rc_training.datasets import DATASETS
from rc_training.models import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


@dataclass(frozen=True)
class Recipe:
    """How to train one network: SGD with warm-up and cosine, cross entropy.

    Attributes:
        name: the recipe's file name without its suffix.
        dataset: a name of `DATASETS`.
        architecture: a name of `ARCHITECTURES`.
        activation: a name of `ACTIVATIONS`.
        epochs: passes over the training split.
        batch_size: images per step; an epoch's last batch may be smaller.
        learning_rate: the highest one, reached after the warm-up.
        warmup_epochs: fewer than `epochs`.
        momentum: of SGD, not Nesterov's.
        weight_decay: on all parameters.
        augment: names of `AUGMENTATIONS`, in the order in which they are applied.
        seed: of the weights, the order of the images and the augmentations.
    """

    name: str
    dataset: str
    architecture: str
    activation: str
    epochs: int
    batch_size: int
    learning_rate: float
    warmup_epochs: int
    momentum: float
    weight_decay: float
    augment: tuple[str, ...]
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self) | {"augment": list(self.augment)}


@dataclass(frozen=True)
class Rule:
    """What one key may be: `allowed` in words for messages, `accepts` as a test."""

    allowed: str
    accepts: Callable[[Any], bool]


def _one_of(names: Iterable[str]) -> Rule:
    known = tuple(names)
    return Rule(f"one of {', '.join(known)}", lambda value: isinstance(value, str) and value in known)


def _list_of(names: Iterable[str]) -> Rule:
    known = tuple(names)
    return Rule(
        f"a list of any of {', '.join(known)}, each once",
        lambda value: (
            isinstance(value, list) and all(item in known for item in value) and len(set(value)) == len(value)
        ),
    )


def _whole(low: int, high: int) -> Rule:
    return Rule(f"a whole number from {low:,} to {high:,}", lambda value: type(value) is int and low <= value <= high)


def _number(low: float, high: float) -> Rule:
    return Rule(
        f"a number from {low:g} to {high:g}",
        lambda value: type(value) in (int, float) and low <= value <= high,
    )


RULES = {
    "dataset": _one_of(DATASETS),
    "architecture": _one_of(ARCHITECTURES),
    "activation": _one_of(ACTIVATIONS),
    "epochs": _whole(1, 10_000),
    "batch_size": _whole(1, 65_536),
    "learning_rate": _number(1e-8, 1e8),
    "warmup_epochs": _whole(0, 9_999),
    "momentum": _number(0, 0.9999),
    "weight_decay": _number(0, 1),
    "augment": _list_of(AUGMENTATIONS),
    "seed": _whole(0, 2**63 - 1),
}
OPTIONAL_KEYS = {field.name for field in fields(Recipe) if field.default is not MISSING}


def available() -> dict[str, Path]:
    """Return the recipes that come with rc_training, by name."""
    here = Path(__file__).parent
    # In a wheel the recipes lie inside the package, in the source tree beside it.
    folder = next((place for place in (here / "recipes", here.parent / "recipes") if place.is_dir()), here)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load(reference: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        reference: the name of one that comes with rc_training, or the path of a .toml file.
        overrides: "key=value" each, in place of what the file says; the value as in TOML, but strings need no
            quotes and lists may be written a,b.

    Raises:
        InputError: no such recipe, not TOML, or a key unknown, missing, of the wrong type or out of range.
    """
    path = find(reference)
    try:
        table = tomllib.loads(require_file(path, "recipe").read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {path} is not valid TOML: {error}.", "Correct that place in the file.") from None
    except RecursionError:
        raise InputError(
            f"The recipe {path} is nested too deep.", f"A recipe is a flat list of keys: {', '.join(RULES)}."
        ) from None
    origins = dict.fromkeys(table, f"The recipe {path}")
    for override in overrides:
        key, value = _parse_override(override)
        table[key] = value
        origins[key] = f"--set {override}"
    for key, value in table.items():
        _check(key, value, origins[key])
    return _from_table(path, table)


def find(reference: str) -> Path:
    """Return the file of a recipe: its own path, or that of the one so named. Raises InputError for other names."""
    if reference.endswith(".toml"):
        return Path(reference)
    known = available()
    if reference not in known:
        raise InputError(
            f"There is no recipe named '{reference}'. Known: {', '.join(known)}.",
            "Name one of these, or give the path of a .toml file.",
        )
    return known[reference]


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise InputError(f"--set {text} is not KEY=VALUE.", "Write e.g. --set epochs=10.")
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):  # a text without quotes; what is no such either, is refused below
        parsed = value
    if key == "augment" and isinstance(parsed, str):
        parsed = [name.strip() for name in parsed.split(",") if name.strip()]
    return key, parsed


def _check(key: str, value: Any, origin: str) -> None:
    if key not in RULES:
        raise InputError(f"{origin}: there is no key '{key}'.", f"The keys are {', '.join(RULES)}.")
    if not RULES[key].accepts(value):
        raise InputError(
            f"{origin}: '{key}' is {value!r:.80}; it must be {RULES[key].allowed}.",
            f"Correct it there, or pass --set {key}=VALUE.",
        )


def _from_table(path: Path, table: dict[str, Any]) -> Recipe:
    missing = [key for key in RULES if key not in table and key not in OPTIONAL_KEYS]
    if missing:
        raise InputError(
            f"The recipe {path} lacks {', '.join(missing)}.",
            f"Add it, or pass --set {missing[0]}=VALUE: {missing[0]} is {RULES[missing[0]].allowed}.",
        )
    if table["warmup_epochs"] >= table["epochs"]:
        raise InputError(
            f"The recipe {path}: 'warmup_epochs' is {table['warmup_epochs']}; it must be smaller than "
            f"'epochs', which is {table['epochs']}.",
            "Pass --set warmup_epochs=0, or more epochs.",
        )
    numbers = {key: float(table[key]) for key in ("learning_rate", "momentum", "weight_decay")}
    return Recipe(**{**table, **numbers, "name": path.stem, "augment": tuple(table["augment"])})
