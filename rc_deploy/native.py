"""Finds the libraries built from plugins/, which run `rc` operators natively in place of their bodies."""

from __future__ import annotations

import os
from pathlib import Path

import rc_deploy
from rc_deploy.errors import InputError

# A folder to take the libraries from, e.g. a build tree's; empty: use none, and let the bodies run.
VARIABLE = "RC_DEPLOY_LIBRARIES"
ONNX_RUNTIME_LIBRARY = "librc_ort.so"


def onnx_runtime_library() -> Path | None:
    """Return the library to register with ONNX Runtime; None where there is none, or none is wanted.

    Raises:
        InputError: the folder that RC_DEPLOY_LIBRARIES names does not hold it.
    """
    return library(ONNX_RUNTIME_LIBRARY)


def library(name: str) -> Path | None:
    """Return the file of that name, from the folder that RC_DEPLOY_LIBRARIES names or from the installed package.

    Raises:
        InputError: the folder that RC_DEPLOY_LIBRARIES names does not hold it.
    """
    stated = os.environ.get(VARIABLE)
    if stated == "":
        return None
    if stated is not None:
        path = Path(stated) / name
        if not path.is_file():
            raise InputError(
                f"{VARIABLE} names the folder {stated}, which has no {name}.",
                f"Build it with `make native`, or unset {VARIABLE}.",
            )
        return path.resolve()
    # An editable install has two folders: the sources, and where the build put its results.
    installed = (Path(folder) / "lib" / name for folder in rc_deploy.__path__)
    return next((path.resolve() for path in installed if path.is_file()), None)
