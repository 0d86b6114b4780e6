"""Finding and reading the JSON documents that the other commands wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from rc_deploy import bench, manifest, verdict
from rc_deploy.decode import FormError, clean, cleaned, decode
from rc_deploy.errors import InputError
from rc_deploy.files import read_json, sha256
from rc_deploy.report.records import Bench, Build, Chain, Training, Validation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Record = TypeVar("Record")

# The trainer writes these; rc_deploy never imports it, so the contract stands here a second time.
TRAINING_SCHEMA, TRAINING_SCHEMA_VERSION = "rc-deploy/training", 1


@dataclass(frozen=True)
class Kind:
    """A kind of document.

    Attributes:
        key: the key that holds `name`; `key` + "_version" holds the version.
        name: what that key says.
        version: the version that this program reads.
        record: what it is read into.
        title: for people.
        command: what writes it.
    """

    key: str
    name: str
    version: int
    record: type
    title: str
    command: str


KINDS = (
    Kind(
        "schema",
        TRAINING_SCHEMA,
        TRAINING_SCHEMA_VERSION,
        Training,
        "training",
        "rc-deploy train RECIPE --json training.json",
    ),
    Kind(
        "schema",
        verdict.SCHEMA,
        verdict.SCHEMA_VERSION,
        Chain,
        "validation",
        "rc-deploy validate ARTEFACT --reference CHECKPOINT --data digits:test --json validation.json",
    ),
    Kind("format", manifest.FORMAT, manifest.FORMAT_VERSION, Build, "manifest", "rc-deploy build MODEL.onnx --fp16"),
    Kind(
        "schema", bench.SCHEMA, bench.SCHEMA_VERSION, Bench, "benchmark", "rc-deploy bench ARTEFACT --json bench.json"
    ),
)


@dataclass(frozen=True)
class Document:
    """One file that was read: where it lay, its SHA-256, and its content as a record."""

    path: Path
    sha256: str
    kind: Kind
    record: Any

    @property
    def name(self) -> str:
        """The file's name, fit to be shown."""
        return clean(self.path.name)


@dataclass(frozen=True)
class Documents:
    """Everything that a report is made from."""

    all: tuple[Document, ...]

    @property
    def trainings(self) -> tuple[Training, ...]:
        """Training runs, in the order given."""
        return self._of(Training)

    @property
    def builds(self) -> tuple[Build, ...]:
        """Manifests, in the order given."""
        return self._of(Build)

    @property
    def benches(self) -> tuple[Bench, ...]:
        """Benchmarks, in the order given."""
        return self._of(Bench)

    @property
    def validations(self) -> tuple[Validation, ...]:
        """Validations in the order of the pipeline: float32 before smaller types, a graph before its engine."""

        def place(item: Validation) -> tuple[bool, str, bool]:
            return item.artefact.precision != "fp32", item.artefact.precision, item.artefact.kind != "onnx"

        return tuple(sorted((item for chain in self.chains for item in chain.validations), key=place))

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Runs of `rc-deploy validate`, each on one or several artefacts, in the order given."""
        return self._of(Chain)

    def file_of(self, record: object) -> Document:
        """Return the document that holds a record."""
        return next(document for document in self.all if document.record is record)

    def _of(self, record: type[Record]) -> tuple[Record, ...]:
        return tuple(cast("Record", item.record) for item in self.all if item.kind.record is record)


def load(sources: Sequence[Path]) -> Documents:
    """Read documents.

    Args:
        sources: documents, and folders whose *.json are read where they are documents of ours.

    Raises:
        InputError: nothing to read, or a file that is missing, damaged, of another version, or, if it was named
            itself, not a document of rc-deploy.
    """
    found: dict[Path, Document] = {}
    for path, named in _paths(sources):
        if path.resolve() not in found and (document := _read(path, named)) is not None:
            found[path.resolve()] = document
    if not found:
        places = ", ".join(str(source) for source in sources) or "nothing"
        raise InputError(
            f"There is nothing to report: no document of rc-deploy in {places}.",
            "Write one first: " + KINDS[1].command,
        )
    return Documents(tuple(found.values()))


def _paths(sources: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield each file, and whether it was named itself."""
    for source in sources:
        if source.is_dir():
            yield from ((path, False) for path in sorted(source.glob("*.json")) if path.is_file())
        else:
            yield source, True


def _read(path: Path, named: bool) -> Document | None:
    if not named and not _may_hold_object(path):
        return None
    content = read_json(path, "document")
    if not any(content.get(kind.key) == kind.name for kind in KINDS) and not named:
        return None
    return document(path, sha256(path), content)


def document(path: Path, hashed: str, content: dict[str, Any]) -> Document:
    """Return a document.

    Args:
        path: where it lies, or what it is to be called where it was not written.
        hashed: its SHA-256.
        content: what it says.

    Raises:
        InputError: it is damaged, of another version, or not a document of rc-deploy.
    """
    kind = next((kind for kind in KINDS if content.get(kind.key) == kind.name), None)
    if kind is None:
        raise InputError(
            f"{path} is JSON, but not a document that a report is made from.",
            "Name what train, validate or bench wrote with --json, or the .json that build wrote beside an engine.",
        )
    try:
        content = cleaned(content)
        if (version := content.get(f"{kind.key}_version")) != kind.version:
            raise InputError(
                f"The {kind.title} {path} has version {version!r}; this rc-deploy reads version {kind.version}.",
                f"Make it again: {kind.command}",
            )
        return Document(path, hashed, kind, decode(kind.record, content))
    except FormError as error:
        raise InputError(f"The {kind.title} {path} is damaged: {error}.", f"Make it again: {kind.command}") from None


def _may_hold_object(path: Path) -> bool:
    """Return whether a file is empty (cut off, worth a message) or begins like a JSON object, as our documents do."""
    try:
        with path.open("rb") as file:
            return file.read(256).lstrip()[:1] in (b"", b"{")
    except OSError:
        return True  # unreadable: `read_json` has the words for it
