"""What `rc-deploy plot responses` does with its options: run the networks, draw their responses, say the numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import track

from rc_deploy import checkpoint, data
from rc_deploy.artefacts import Kind
from rc_deploy.files import digest, sha256, write_bytes
from rc_deploy.outputs import require_json, require_outputs
from rc_training.datasets import normalise
from rc_training.plots.outcome import show
from rc_training.plots.picture import encoded, require_format, settings
from rc_training.plots.responses import last_block, record
from rc_training.plots.rows import chosen, numbers, row
from rc_training.plots.violins import draw
from rc_training.train import resolve_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from rc_deploy.checkpoint import Checkpoint
    from rc_deploy.data import ImageSet
    from rc_deploy.specs import InputSpec
    from rc_training.plots.rows import Row, View

SCHEMA, SCHEMA_VERSION = "rc-deploy/responses", 1
BATCH = 250


@dataclass(frozen=True)
class ResponsesOptions:
    """The command line of `rc-deploy plot responses`.

    Attributes:
        checkpoints: a row of violins each.
        data: source of the images.
        data_dir: folder of the data set.
        output: picture to write.
        channels: to draw at most.
        limit: images to use, from the first; all of them for None.
        device: "auto", "cpu" or "cuda".
        json: file for the numbers, "-" for standard output, None for neither.
    """

    checkpoints: tuple[Path, ...]
    data: str
    data_dir: Path | None
    output: Path
    channels: int
    limit: int | None
    device: str
    json: str | None


def draw_responses(options: ResponsesOptions) -> None:
    """Draw response values as `options` say; all networks are looked at before the first one runs.

    Raises:
        InputError: a checkpoint or the data cannot be used.
        UnsupportedError: a network is not made of blocks that can be read, or "cuda" without a CUDA device.
        OutputError: the picture cannot be written there.
        MissingDependencyError: Matplotlib is not installed.
    """
    require_format(options.output)
    inputs = [*options.checkpoints, *data.files_of(options.data, options.data_dir)]
    require_outputs([(options.output, Kind.PICTURE)], inputs)
    require_json(options.json, [options.output, *inputs])
    device = resolve_device(options.device)
    with settings():
        loaded = [checkpoint.load(path) for path in options.checkpoints]
        names = _names(options.checkpoints, loaded)
        networks = [saved.module() for saved in loaded]
        for network, name in zip(networks, names, strict=True):
            last_block(network, name)
        found = [data.load(options.data, options.data_dir, saved.input).head(options.limit) for saved in loaded]
        rows = []
        for saved, network, name, images in zip(loaded, networks, names, found, strict=True):
            batches = _batches(images, saved.input, device, name)
            rows.append(row(name, record(network.to(device), batches, name), images.labels))
        picture = encoded(draw(rows, options.channels), options.output)
    write_bytes(options.output, picture)
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "output": str(options.output),
        "sha256": digest(picture),
        "data": options.data,
        "images": len(found[0]),
        "networks": [
            {"checkpoint": str(path), "sha256": sha256(path), "architecture": saved.architecture}
            | _described(item, options.channels)
            for path, saved, item in zip(options.checkpoints, loaded, rows, strict=True)
        ],
    }
    what = f"responses of the last block before its activation, {len(found[0]):,} images of {options.data}"
    sentences = [sentence for item in rows for sentence in _sentences(item)]
    show(document, [f"{options.output}: {what}", *sentences], [], options.json)


def _names(paths: Sequence[Path], loaded: Sequence[Checkpoint]) -> list[str]:
    """Return a name for each network: its architecture, and its file where that does not tell them apart."""
    known = [saved.architecture for saved in loaded]
    return [name if known.count(name) == 1 else f"{name}, {path}" for name, path in zip(known, paths, strict=True)]


def _batches(images: ImageSet, spec: InputSpec, device: torch.device, name: str) -> Iterator[Tensor]:
    """Yield the images as the network called `name` takes them, with a bar on a terminal."""
    console = Console(stderr=True)
    starts = range(0, len(images), BATCH)
    for start in track(starts, name, console=console, transient=True, disable=not console.is_terminal):
        yield normalise(torch.from_numpy(images.images[start : start + BATCH]).to(device), spec)


def _described(item: Row, most: int) -> dict[str, Any]:
    calibration = item.calibration
    return {
        "drawn": chosen(item.responses.features.shape[1], most),
        "responses": _numbers(item.responses),
        "calibration": calibration
        and {
            "layer": calibration.layer,
            "before": _numbers(calibration.before),
            "after": _numbers(calibration.after),
        },
    }


def _numbers(view: View) -> dict[str, Any]:
    return {"summary": asdict(view.summary), "channels": view.channels.to_json()}


def _sentences(item: Row) -> list[str]:
    view, calibration = item.responses, item.calibration
    between = f"standard deviation of the channels' means {view.summary.std_between_channels:.3g}"
    lines = [f"{item.name}, {view.features.shape[1]:,} channels: {numbers(view.summary)}; {between}"]
    if calibration is not None:
        lines.append(f"  branch before its {calibration.layer}: {numbers(calibration.before.summary)}")
        lines.append(f"  branch after its {calibration.layer}: {numbers(calibration.after.summary)}")
    return lines
