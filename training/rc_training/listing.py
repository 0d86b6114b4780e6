"""What `rc-deploy train --list` shows: a line per recipe, the paper's result beside it. It needs no PyTorch."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc_deploy.errors import InputError
from rc_deploy.files import json_text, write_json
from rc_deploy.outputs import require_json
from rc_training.catalogue import ALIASES, available, matching
from rc_training.columns import accuracy, aligned, setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rc_training.tables import Entry

SCHEMA, SCHEMA_VERSION = "rc-deploy/recipes", 1
HEAD = ("recipe", "data set", "network", "base", "epochs", "paper", "what it is about")
LEGEND = "paper: top-1 accuracy in %, the best epoch of one seed. Run one with: rc-deploy train RECIPE"


def run(word: str | None, json: str | None) -> None:
    """Print the recipes that have `word` in them, all without one; `json` names a file for them, "-" for the output.

    Raises:
        InputError: none has.
        OutputError: the file cannot be written.
    """
    found = matching(word)
    require_json(json, {entry.path for entry in found})
    if not found:
        raise InputError(f"No recipe has '{word}' in it.", "Leave out the word: rc-deploy train --list")
    twins = _twins(available().values())
    if json == "-":
        sys.stdout.write(json_text(document(found, twins)) + "\n")
        return
    if json is not None:
        write_json(Path(json), document(found, twins))
    sys.stdout.write("\n".join(lines(found, twins)) + "\n")


def document(entries: Iterable[Entry], twins: dict[str, str]) -> dict[str, Any]:
    """Return recipes as JSON values; `twins` names the recipe that each one repeats, if any."""
    recipes = [
        {
            "name": entry.name,
            "aliases": [alias for alias, name in ALIASES.items() if name == entry.name],
            "table": entry.title,
            "base": entry.base,
            "keys": entry.keys,
            "changes": entry.changes,
            "same_as": twins.get(entry.name),
            "paper": None if entry.paper is None else vars(entry.paper),
        }
        for entry in entries
    ]
    return {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "recipes": recipes}


def lines(entries: Sequence[Entry], twins: dict[str, str]) -> list[str]:
    """Return a line per recipe in columns, and one above each table of the paper."""
    head, *rows = aligned(HEAD, [_cells(entry, twins) for entry in entries], numbers=("epochs", "paper"))
    text, rest = [head], iter(rows)
    for title, group in groupby(entries, lambda entry: entry.title):
        text += ["", title or "Not the paper's", *(next(rest) for _ in group)]
    return [*text, "", LEGEND]


def _cells(entry: Entry, twins: dict[str, str]) -> tuple[str, ...]:
    keys, paper = entry.keys, entry.paper
    about = [", ".join(setting(key, value) for key, value in entry.changes.items())]
    if paper is not None:
        about += [
            f"top-5 {accuracy(paper.top5)}" if paper.top5 else "",
            f"{paper.hours:g} h there" if paper.hours else "",
        ]
        about.append(paper.note)
    if entry.name in twins:
        about.append(f"the same recipe as {twins[entry.name]}")
    return (
        entry.name,
        str(keys.get("dataset", "")),
        str(keys.get("architecture", "")),
        entry.base,
        str(keys.get("epochs", "")),
        "" if paper is None else accuracy(paper.accuracy),
        "; ".join(filter(None, about)),
    )


def _twins(entries: Iterable[Entry]) -> dict[str, str]:
    """Return, for each recipe whose keys an earlier one has too, the name of the earlier one."""
    seen: list[Entry] = []
    twins = {}
    for entry in entries:
        if first := next((other for other in seen if other.keys == entry.keys), None):
            twins[entry.name] = first.name
        else:
            seen.append(entry)
    return twins
