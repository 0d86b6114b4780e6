"""What a library said when it gave up; `messages.translate` makes an error of it. Imports next to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

Phase = Literal["parse", "build", "load", "run"]


@dataclass(frozen=True)
class ParserError:
    """One error of an ONNX parser, as `IParserError` has it."""

    node: str
    operator: str
    code: str
    description: str


@dataclass(frozen=True)
class Failure:
    """What a library said when it gave up.

    Attributes:
        title: of the library, e.g. "TensorRT-RTX".
        version: of it.
        phase: what it was doing.
        errors: its log's errors, in order; warnings that tell of a cause may be among them.
        parser_errors: its parser's, in order.
        log: file that holds everything it said; None where there is none.
    """

    title: str
    version: str
    phase: Phase
    errors: tuple[str, ...] = ()
    parser_errors: tuple[ParserError, ...] = ()
    log: Path | None = None
