"""Every recipe by name: those with a file of their own, and the cells of the paper's tables. It needs no PyTorch."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from rc_deploy.errors import InputError
from rc_training import tables
from rc_training.tables import Entry, read_toml

# Names that were given before the paper's tables had recipes.
ALIASES = {"cifar10-rescnet32": "table1/rescnet32-cifar10"}


def folder() -> Path:
    """Return the folder of the recipes that come with rc_training."""
    here = Path(__file__).parent
    # In a wheel the recipes lie inside the package, in the source tree beside it.
    return next((place for place in (here / "recipes", here.parent / "recipes") if place.is_dir()), here)


def available() -> dict[str, Entry]:
    """Return the recipes that come with rc_training, by name. Raises InputError for one that is not TOML."""
    place = folder()
    own = (Entry(path.stem, path, read_toml(path)) for path in sorted(place.glob("*.toml")))
    return {entry.name: entry for entry in (*own, *tables.read(place / "paper"))}


def find(reference: str) -> Entry:
    """Return a recipe by its name, or by the path of a .toml file.

    Raises:
        InputError: there is no such recipe, or its file is not TOML.
    """
    if reference.endswith(".toml"):
        path = Path(reference)
        return Entry(path.stem, path, read_toml(path))
    known = available()
    name = ALIASES.get(reference, reference)
    if name not in known:
        similar = get_close_matches(reference, [*known, *ALIASES], n=5, cutoff=0.5)
        guess = f" Did you mean {', '.join(similar)}?" if similar else ""
        raise InputError(
            f"There is no recipe named '{reference}'.{guess}",
            "`rc-deploy train --list` shows them all; or give the path of a .toml file.",
        )
    return known[name]


def matching(word: str | None) -> list[Entry]:
    """Return the recipes with this word in their name, data set, network, activation or base; all without a word."""
    wanted = (word or "").lower()
    return [entry for entry in available().values() if wanted in _searched(entry)]


def _searched(entry: Entry) -> str:
    keys = entry.keys
    words = (entry.name, keys.get("dataset"), keys.get("architecture"), keys.get("activation"), entry.base)
    return " ".join(str(word) for word in words).lower()
