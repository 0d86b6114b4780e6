"""Finds the libraries built from plugins/, which run `rc` operators natively in place of their bodies."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import rc_deploy
from rc_deploy import elf
from rc_deploy.errors import InputError

# A folder to take the libraries from, e.g. a build tree's; empty: use none, and let the bodies run.
VARIABLE = "RC_DEPLOY_LIBRARIES"
ONNX_RUNTIME_LIBRARY = "librc_ort.so"
TENSORRT_LIBRARY = "librc_trt.so"
# What the libraries' sources have the compiler write into them.
_BUILT_FOR = re.compile(rb"rc-deploy built this for ([\w. -]+)\0")


@dataclass(frozen=True)
class BuiltFor:
    """What one of our libraries was built for: a runtime, and GPUs by compute capability; none for the CPU alone."""

    runtime: str
    device_code: frozenset[elf.DeviceCode]

    def __str__(self) -> str:
        """Return it in words."""
        own, ptx = (sorted(code[0] for code in self.device_code if code.ptx is kind) for kind in (False, True))
        words = [f"for {self.runtime} or later" if self.runtime else "for a runtime that it does not name"]
        words += [f"code for compute capability {', '.join(sorted(own, key=float))}"] if own else []
        words += [f"PTX of {', '.join(sorted(ptx, key=float))} for later ones"] if ptx else []
        return "; ".join(words if self.device_code else [*words, "for the CPU alone"])


def built_for(library: Path) -> BuiltFor:
    """Return what one of our libraries was built for, read from its bytes: it is not loaded."""
    stated = _BUILT_FOR.search(elf.section(library, ".rodata"))
    return BuiltFor(
        stated[1].decode() if stated else "", frozenset(elf.device_code(elf.section(library, ".nv_fatbin")))
    )


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
