"""The commands `rc-deploy plot ...`; they join the command line through the entry points `rc_deploy.commands`.

Everything heavy is imported inside the functions: `rc-deploy --help` lists them without Matplotlib or PyTorch.
"""

# No `from __future__ import annotations`: typer reads the annotations when the program runs.
from pathlib import Path
from typing import Annotated

import typer

from rc_training.cli import Device

MOST_CHANNELS = 256  # violins side by side on a page

app = typer.Typer(help="Draw the paper's plots from your own runs and checkpoints.", no_args_is_help=True)

Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write what is drawn as JSON; '-' for standard output.")
]


@app.command()
def curves(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of training runs, or folders that hold such.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: .png, .svg or .pdf.")] = Path(
        "curves.png"
    ),
    error: Annotated[bool, typer.Option("--error", help="Draw the top-1 error, 100% less the accuracy.")] = False,
    json: Json = None,
) -> None:
    """Draw loss and accuracy by epoch, recipes beside each other, the seeds of each as mean and range (Fig. 4)."""
    from rc_training.plots.curves_command import CurvesOptions, draw_curves

    draw_curves(CurvesOptions(tuple(runs), output, error, json))


@app.command()
def responses(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CHECKPOINT...", help="Of residual networks; a row of violins for each.")
    ],
    data: Annotated[str, typer.Option(metavar="SOURCE", help="digits:test, cifar10:test, npz:PATH.")],
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder that holds CIFAR; RC_DATA by default.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: .png, .svg or .pdf.")] = Path(
        "responses.png"
    ),
    channels: Annotated[
        int, typer.Option(min=1, max=MOST_CHANNELS, metavar="N", help="Draw so many channels at most, evenly spaced.")
    ] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Use the first N images only.")] = None,
    device: Annotated[Device, typer.Option(help="auto takes CUDA where there is one.")] = Device.AUTO,
    json: Json = None,
) -> None:
    """Draw how the last block's response values are distributed, channel by channel (Fig. 2 and 5)."""
    from rc_deploy.optional import require

    require("torch", "Reading response values", extra="train")
    from rc_training.plots.responses_command import ResponsesOptions, draw_responses

    draw_responses(ResponsesOptions(tuple(checkpoints), data, data_dir, output, channels, limit, device.value, json))
