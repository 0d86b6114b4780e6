"""The command `rc-deploy results`; it joins the command line through the entry points `rc_deploy.commands`.

Everything heavy is imported inside the function: `rc-deploy --help` lists this command without PyTorch.
"""

# No `from __future__ import annotations`: typer reads the annotations when the program runs.
from pathlib import Path
from typing import Annotated

import typer


def results(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR]...", help="Folders that hold runs; runs by default.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the outcome as JSON; '-' for standard output.")
    ] = None,
) -> None:
    """Show every finished run beside the paper's result, and how far the others are."""
    from rc_deploy.optional import require

    require("torch", "Comparing runs with their recipes", extra="train")
    from rich.console import Console

    from rc_deploy.files import json_text, write_json
    from rc_deploy.outputs import require_json
    from rc_training import results_view, runs
    from rc_training.results import collect
    from rc_training.run import Run

    places = runs.find(folders or [Path("runs")])
    require_json(json, [file for place in places for file in Run(place).documents])
    found = collect(places)
    for reason in found.skipped:
        Console(stderr=True, soft_wrap=True).print(f"warning: skipped: {reason}", markup=False, highlight=False)
    if json == "-":
        print(json_text(found.to_json()))
        return
    if json is not None:
        write_json(Path(json), found.to_json())
    print(results_view.markdown(found) if markdown else results_view.text(found), end="")
