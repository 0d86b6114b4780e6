"""Write the tables of docs/gpu-status.md and README.md from benchmarks/results: python benchmarks/results_table.py.

A row for each claim of claims.toml. What no record there has seen reads "not yet run"; a rehearsal is refused. With
--check nothing is written, and the exit code is 1 where a page says something else than the records do.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import marked
from claims import Claim, ClaimError, load
from outcomes import NOT_RUN, Outcome, RecordError, Records

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("benchmarks") / "results"
README, STATUS = Path("README.md"), Path("docs") / "gpu-status.md"
PART = "results"
COMMAND = "python benchmarks/results_table.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write both pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where a page is out of date")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the sources; these by default")
    options = parser.parse_args(arguments)
    try:
        return marked.write(pages(options.root, load()), options.check, COMMAND)
    except (ClaimError, RecordError, marked.MarkersError) as error:
        print(f"results_table.py: {error}", file=sys.stderr)
        return 1


def pages(root: Path, claims: Sequence[Claim]) -> dict[Path, str]:
    """Return what the pages should say.

    Raises:
        RecordError: a record is a rehearsal, or no record.
        MarkersError: a page has no place for its table.
    """
    records = Records.read(root / RESULTS)
    found = [(claim, records.outcome(claim)) for claim in claims]
    headings = ["claim", "command", "outcome", "date", "machine", "driver", "result file"]
    status = marked.table(headings, (status_row(*one) for one in found))
    figures = (readme_row(*one) for one in found if one[0].readme)
    readme = marked.table(["on a GPU", "measured", "machine", "date"], figures)
    return {
        root / page: marked.replaced((root / page).read_text(encoding="utf-8"), PART, part, page.name)
        for page, part in ((STATUS, status), (README, readme))
    }


def status_row(claim: Claim, outcome: Outcome | None) -> list[str]:
    """Return a claim's cells in docs/gpu-status.md."""
    words = f"{claim.claim} *({claim.meanwhile})*" if claim.meanwhile else claim.claim
    command = f"`{claim.command}`" if claim.command else "none yet"
    if outcome is None:
        return [words, command, *[NOT_RUN] * 5]
    file = f"`{(RESULTS / outcome.file).as_posix()}`"
    return [words, command, outcome.words, outcome.date, outcome.machine, outcome.driver, file]


def readme_row(claim: Claim, outcome: Outcome | None) -> list[str]:
    """Return a figure's cells in README.md."""
    if outcome is None:
        return [claim.readme, NOT_RUN, "", ""]
    return [claim.readme, outcome.figures or outcome.words, outcome.machine, outcome.date]


if __name__ == "__main__":
    sys.exit(main())
