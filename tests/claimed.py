"""What claims.toml asks of a record, held against records of rehearsals, which have everything that a record has."""

from __future__ import annotations

from typing import Any

from claims import load
from outcomes import figures


def unfound_figures(part: str, measured: Any) -> list[str]:
    """Return the claims on a part of `make gpu-check` of which something is not in what it measures."""
    claims = [claim for claim in load() if part in claim.parts and claim.figures]
    assert claims, f"no claim wants a figure of {part}"
    return [claim.claim for claim in claims if not all(list(figures(measured, path)) for path in claim.figures)]
