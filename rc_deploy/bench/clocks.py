"""What an NVIDIA GPU says of its clocks: a figure from a GPU that was throttled is one of the throttling."""

from __future__ import annotations

import shutil
import subprocess

from rc_deploy import gpu

# nvidia-smi --help-query-gpu; the reasons are a bit mask, nvmlClocksEventReasons.
QUERIES = (
    "name",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "temperature.gpu",
    "power.draw",
    "clocks_throttle_reasons.active",
)
_PATIENCE = 10.0


def gpu_clocks() -> dict[str, str]:
    """Return the first GPU's answers to QUERIES; empty where there is no GPU or no nvidia-smi."""
    program = shutil.which("nvidia-smi")
    if program is None or not gpu.driver().gpus:
        return {}
    command = [program, f"--query-gpu={','.join(QUERIES)}", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in answer.stdout.strip().split(",")]
    return dict(zip(QUERIES, values, strict=True)) if len(values) == len(QUERIES) else {}
