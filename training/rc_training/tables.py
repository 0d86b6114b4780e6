"""The paper's tables as recipes: each cell is a base, what its column and its row change in it, and the printed result.

Read from recipes/paper/: bases.toml, and a file per table. No key of a recipe is checked here; `recipe.load` does that,
and needs PyTorch to know the networks. Recipes can therefore be listed without it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from rc_deploy.decode import FormError, decode
from rc_deploy.errors import InputError
from rc_deploy.files import require_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Published:
    """What the paper prints for a recipe. It trained one seed, and took the best of all epochs on the test split.

    Attributes:
        accuracy: in percent.
        top5: in percent, where it is printed.
        hours: that the run took on the authors' machine, where they are printed.
        note: what else the paper says about it.
    """

    accuracy: float
    top5: float | None = None
    hours: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Entry:
    """A recipe as it is written down, its keys not yet checked.

    Attributes:
        name: what `rc-deploy train` calls it, e.g. "table1/rescnet32-cifar10".
        path: the file that it stands in.
        title: of its table; of other recipes none.
        base: the name of what it has in common with others; of other recipes none.
        keys: of the recipe.
        changes: the part of them that the table is about: what row and column add to the base; of a cumulative table,
            what the row adds to the one above it. Data set and architecture are left out.
        paper: the published result; None for recipes that are not the paper's.
    """

    name: str
    path: Path
    keys: dict[str, Any]
    title: str = ""
    base: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    paper: Published | None = None

    @property
    def place(self) -> str:
        """Where it is to be found, for messages: a file, or a cell of a table's file."""
        return f"{self.name} in {self.path}" if self.title else str(self.path)


@dataclass(frozen=True)
class _Column:
    """What a column says beside keys of the recipe."""

    base: str = ""


@dataclass(frozen=True)
class _Row:
    """What a row says beside keys of the recipe; all but the base is by column, as `Published` has it."""

    paper: dict[str, float]
    top5: dict[str, float] = field(default_factory=dict)
    hours: dict[str, float] = field(default_factory=dict)
    note: dict[str, str] = field(default_factory=dict)
    base: str = ""

    def published(self, column: str) -> Published:
        """Return the results of one column."""
        return Published(self.paper[column], self.top5.get(column), self.hours.get(column), self.note.get(column, ""))


@dataclass(frozen=True)
class _Table:
    """A file. The rows of a `cumulative` one keep the changes of those above them."""

    title: str
    base: str
    column: dict[str, _Column]
    row: dict[str, _Row]
    cumulative: bool = False


def read(folder: Path) -> Iterator[Entry]:
    """Yield the recipes of all tables in a folder, in the order in which they are printed.

    Raises:
        InputError: a file is missing, not TOML, or not a table of recipes.
    """
    bases = read_toml(folder / "bases.toml")
    for name, keys in bases.items():
        if not isinstance(keys, dict):
            raise InputError(
                f"The bases {folder / 'bases.toml'}: '{name}' is not a table of keys.",
                f"Write [{name}] above its keys.",
            )
    for path in sorted(folder.glob("table*.toml")):
        try:
            yield from _entries(path, bases)
        except FormError as error:
            raise InputError(f"The table {path}: {error}.", "Correct that place in the file.") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises InputError where it is missing, not TOML or nested too deep."""
    try:
        return tomllib.loads(require_file(path, "recipe").read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {path} is not valid TOML: {error}.", "Correct that place in the file.") from None
    except RecursionError:
        raise InputError(f"The recipe {path} is nested too deep.", "A recipe is a flat list of keys.") from None


def _entries(path: Path, bases: dict[str, Any]) -> Iterator[Entry]:
    document = read_toml(path)
    table = decode(_Table, document)
    _require_known(document, [known.name for known in fields(_Table)], "")
    kept: dict[str, Any] = {}
    for row_name, row in table.row.items():
        added = _recipe_keys(document["row"][row_name], _Row)
        kept = kept | added if table.cumulative else added
        for by_column in ("paper", "top5", "hours", "note"):
            _require_known(getattr(row, by_column), table.column, f"row.{row_name}.{by_column}.")
        for column_name, column in table.column.items():
            chosen = _recipe_keys(document["column"][column_name], _Column)
            base = row.base or column.base or table.base
            if base not in bases:
                raise FormError(f"the base of '{row_name}-{column_name}' is '{base}', not one of {', '.join(bases)}")
            if column_name not in row.paper:
                raise FormError(f"'row.{row_name}.paper.{column_name}' is missing")
            changes = added if table.cumulative else chosen | added
            yield Entry(
                name=f"{path.stem}/{row_name}-{column_name}",
                path=path,
                keys=bases[base] | chosen | kept,
                title=table.title,
                base=base,
                changes={key: value for key, value in changes.items() if key not in ("dataset", "architecture")},
                paper=row.published(column_name),
            )


def _recipe_keys(written: dict[str, Any], record: type) -> dict[str, Any]:
    """Return what is written beside the keys that `record` reads."""
    own = {known.name for known in fields(record)}
    return {key: value for key, value in written.items() if key not in own}


def _require_known(keys: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise FormError for a key that is not known: most often a misspelt one, which nothing else would notice."""
    for key in keys:
        if key not in known:
            raise FormError(f"there is no '{where}{key}' among {', '.join(known)}")
