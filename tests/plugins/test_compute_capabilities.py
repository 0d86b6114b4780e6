"""Which devices the built libraries have CUDA code for, read from the libraries themselves."""

from __future__ import annotations

import re
from collections import Counter

import pytest

import kernel_resources
from native_build import ROOT, built_with_cuda, call, tree

# Compute capabilities of the devices that plugins/cuda/README.md promises to serve, times ten.
DEVICES = (80, 86, 89, 90, 100, 103, 110, 120, 121)
Code = tuple[str, int]  # "ELF" for a device's own code or "PTX", and a compute capability


def serves(code: Code, device: int) -> bool:
    """Own code runs within its major version, PTX on every device; neither on an older one."""
    kind, capability = code
    return capability <= device and (kind == "PTX" or capability // 10 == device // 10)


def unserved(codes: set[Code]) -> list[int]:
    return [device for device in DEVICES if not any(serves(code, device) for code in codes)]


def cuobjdump() -> str:
    """The tool that reads CUDA code, or a reason to skip."""
    found = kernel_resources.cuobjdump()
    if found is None:
        pytest.skip("there is no cuobjdump: pip install nvidia-cuda-cuobjdump")
    return found


def compiled_for_all() -> None:
    """Skip where the tree was asked for other compute capabilities than libraries are shipped with."""
    default = re.findall(r'set\(RC_CUDA_ARCHITECTURES "(.*?)"', (ROOT / "plugins" / "CMakeLists.txt").read_text())
    asked = re.findall(r"^RC_CUDA_ARCHITECTURES:\w+=(.*)$", (tree() / "CMakeCache.txt").read_text(), re.MULTILINE)
    assert default
    if asked != default:
        pytest.skip(f"this tree was compiled for {asked[0]} only")


@pytest.mark.parametrize("name", ["librc_ort.so", "librc_trt.so"])
def test_every_device_has_code_of_every_kernel(name: str) -> None:
    library = built_with_cuda(name)
    compiled_for_all()
    listed = call(cuobjdump(), "--list-elf", "--list-ptx", library)
    codes = Counter((kind, int(number)) for kind, number in re.findall(r"^(ELF|PTX) file .*\.sm_(\d+)\.", listed, re.M))
    assert unserved(set(codes)) == []
    # One of each for every source with kernels in it.
    assert set(codes.values()) == {len(list((ROOT / "plugins" / "cuda").glob("*.cu")))}, codes


def test_a_gap_is_seen() -> None:
    """The libraries had it: PTX of 12.0 alone leaves out 11.0, and code of 12.0 alone what is to come."""
    own: set[Code] = {("ELF", capability) for capability in (80, 86, 89, 90, 100, 120)}
    assert unserved({*own, ("PTX", 120)}) == [110]
    assert unserved({*own, ("PTX", 100)}) == []
    assert unserved(own - {("ELF", 80)}) == [80, 110]
    assert not serves(("ELF", 103), 100)
