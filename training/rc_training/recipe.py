"""The recipe: everything that decides what a training run does, read from TOML and checked key by key."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from rc_deploy.errors import InputError
from rc_training import catalogue
from rc_training.augment import AUGMENTATIONS
from rc_training.blocks import ACTIVATIONS
from rc_training.datasets import DATASETS
from rc_training.models import ARCHITECTURES
from rc_training.optimizer import OPTIMIZERS
from rc_training.rules import arguments, list_of, number, one_of, whole
from rc_training.schedule import SCHEDULES
from rc_training.step import PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rc_training.tables import Entry


@dataclass(frozen=True)
class Recipe:
    """How to train one network: everything that decides the result, and nothing that only decides the speed.

    Attributes:
        name: what it is called among the recipes that come along; of a file, its name without suffix.
        dataset: a name of `DATASETS`.
        architecture: a name of `ARCHITECTURES`.
        activation: a name of `ACTIVATIONS`.
        epochs: passes over the training split.
        batch_size: images per step, over all processes; an epoch's last batch may be smaller.
        learning_rate: the highest one, reached after the warm-up.
        warmup_epochs: fewer than `epochs`.
        weight_decay: on all parameters; AdamW's is decoupled from the gradient.
        augment: names of `AUGMENTATIONS`, in the order in which they are applied.
        options: further keyword arguments of `models.create`.
        mixup: alpha of the Beta distribution that mixed images are weighted with; 0 leaves mixup off.
        cutmix: likewise, of the areas that are cut out; with both on, each batch takes one of the two at random.
        optimizer: a name of `OPTIMIZERS`.
        momentum: of SGD, not Nesterov's; AdamW takes no notice of it.
        min_learning_rate: where the cosine ends.
        schedule: a name of `SCHEDULES`: what follows the warm-up.
        step_epochs: epochs between two steps of the schedule "step", counted from the first epoch.
        step_factor: what each of its steps multiplies the learning rate by.
        label_smoothing: share of the target that is spread over all classes.
        clip_norm: largest norm of all gradients together, longer ones are scaled down to it; 0 leaves them alone.
        precision: a name of `PRECISIONS`: of the forward and backward pass; weights are float32. On a GPU, "float32"
            is PyTorch's default: convolutions take TF32, whose products keep 11 bits of each factor.
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
    weight_decay: float
    augment: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    mixup: float = 0.0
    cutmix: float = 0.0
    optimizer: str = "sgd"
    momentum: float = 0.9
    min_learning_rate: float = 0.0
    schedule: str = "cosine"
    step_epochs: int = 30
    step_factor: float = 0.1
    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    precision: str = "float32"
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self) | {"augment": list(self.augment)}

    def differences(self, other: dict[str, Any]) -> str:
        """Say in which keys another recipe, as JSON values, differs; "" where it says the same under any name."""
        mine = self.to_json()
        keys = [key for key in {**other, **mine} if key != "name" and other.get(key) != mine.get(key)]
        return "; ".join(f"{key} is {other.get(key)!r:.60} there and {mine.get(key)!r:.60} here" for key in keys)


RULES = {
    "dataset": one_of(DATASETS),
    "architecture": one_of(ARCHITECTURES),
    "activation": one_of(ACTIVATIONS),
    "options": arguments(reserved=("num_classes", "activation", "in_channels")),
    "augment": list_of(AUGMENTATIONS),
    "mixup": number(0, 100),
    "cutmix": number(0, 100),
    "epochs": whole(1, 10_000),
    "batch_size": whole(1, 65_536),
    "optimizer": one_of(OPTIMIZERS),
    "learning_rate": number(1e-8, 1e8),
    "min_learning_rate": number(0, 1e8),
    "schedule": one_of(SCHEDULES),
    "step_epochs": whole(1, 10_000),
    "step_factor": number(1e-8, 1),
    "warmup_epochs": whole(0, 9_999),
    "momentum": number(0, 0.9999),
    "weight_decay": number(0, 1),
    "label_smoothing": number(0, 0.9999),
    "clip_norm": number(0, 1e8),
    "precision": one_of(PRECISIONS),
    "seed": whole(0, 2**63 - 1),
}
REQUIRED_KEYS = {
    field.name for field in fields(Recipe) if field.default is MISSING and field.default_factory is MISSING
} & RULES.keys()
NUMBER_KEYS = {field.name for field in fields(Recipe) if field.type == "float"}


def load(reference: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        reference: the name of one that comes with rc_training, or the path of a .toml file.
        overrides: "key=value" each, in place of what the file says; the value as in TOML, but strings need no
            quotes and lists may be written a,b. "options.NAME=value" changes one of the options and leaves the others.
            Where "epochs=value" leaves no room for the recipe's warm-up, it takes half of them.

    Raises:
        InputError: no such recipe, not TOML, or a key unknown, missing, of the wrong type or out of range.
    """
    entry = catalogue.find(reference)
    table = dict(entry.keys)
    changed = {}
    for override in overrides:
        key, value = _parse_override(override, table)
        table[key] = value
        changed[key] = f"--set {override}"
    for key, value in table.items():
        _check(key, value, changed.get(key, f"The recipe {entry.place}"))
    if "epochs" in changed and "warmup_epochs" not in changed and table.get("warmup_epochs", 0) >= table["epochs"]:
        table["warmup_epochs"] = table["epochs"] // 2
    return _from_table(entry, table)


def find(reference: str) -> Path:
    """Return the file that a recipe stands in. Raises InputError as `catalogue.find` does."""
    return catalogue.find(reference).path


def _parse_override(text: str, table: dict[str, Any]) -> tuple[str, Any]:
    """Return the key that `text` changes and its new value; `table` holds the recipe so far."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise InputError(f"--set {text} is not KEY=VALUE.", "Write e.g. --set epochs=10.")
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):  # a text without quotes; what is no such either, is refused below
        parsed = value
    if key == "augment" and isinstance(parsed, str):
        parsed = [name.strip() for name in parsed.split(",") if name.strip()]
    options = table.get("options", {})
    if key.startswith("options.") and isinstance(options, dict):  # what else a file may have there is refused below
        return "options", options | {key.removeprefix("options."): parsed}
    return key, parsed


def _check(key: str, value: Any, origin: str) -> None:
    if key not in RULES:
        raise InputError(f"{origin}: there is no key '{key}'.", f"The keys are {', '.join(RULES)}.")
    if not RULES[key].accepts(value):
        raise InputError(
            f"{origin}: '{key}' is {value!r:.80}; it must be {RULES[key].allowed}.",
            f"Correct it there, or pass --set {key}=VALUE.",
        )


def _from_table(entry: Entry, table: dict[str, Any]) -> Recipe:
    missing = [key for key in RULES if key in REQUIRED_KEYS and key not in table]
    if missing:
        raise InputError(
            f"The recipe {entry.place} lacks {', '.join(missing)}.",
            f"Add it, or pass --set {missing[0]}=VALUE: {missing[0]} is {RULES[missing[0]].allowed}.",
        )
    numbers = {key: float(value) for key, value in table.items() if key in NUMBER_KEYS}
    recipe = Recipe(**{**table, **numbers, "name": entry.name, "augment": tuple(table["augment"])})
    if recipe.warmup_epochs >= recipe.epochs:
        raise InputError(
            f"The recipe {entry.place}: 'warmup_epochs' is {recipe.warmup_epochs}; it must be smaller than "
            f"'epochs', which is {recipe.epochs}.",
            "Pass --set warmup_epochs=0, or more epochs.",
        )
    if recipe.min_learning_rate > recipe.learning_rate:
        raise InputError(
            f"The recipe {entry.place}: 'min_learning_rate' is {recipe.min_learning_rate:g}; it must be at most "
            f"'learning_rate', which is {recipe.learning_rate:g}.",
            "Pass --set min_learning_rate=0, or a higher learning rate.",
        )
    return recipe
