"""docs/kernels.md says what the compiler gave every kernel of the tree that is built here, and none of them spills."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import kernel_resources
import marked
from kernel_resources import KERNELS, PAGE, TYPES, Resources, recorded, spilling
from native_build import built_with_cuda, call, passes

ONE = Resources("GCLU", "float16", 90, registers=63, stack=0, shared=0, threads=256)
SPILLING = """
enum rc_approximation {{ RC_NONE }};
template <typename T, rc_approximation kForm>
__global__ void __launch_bounds__(1024, 2) gclu_kernel(const T* x, T* y) {{
  T values[{count}];
  for (int i = 0; i < {count}; ++i) values[i] = x[i * blockDim.x + threadIdx.x];
  __syncthreads();
  for (int i = 0; i < {count}; ++i) y[i * blockDim.x + threadIdx.x] = values[i] * values[{count} - 1 - i];
}}
template __global__ void gclu_kernel<float, RC_NONE>(const float*, float*);
"""


@pytest.fixture(scope="module")
def library() -> Path:
    found = built_with_cuda("librc_cuda.so")
    if kernel_resources.cuobjdump() is None:
        pytest.skip("there is no cuobjdump: pip install nvidia-cuda-cuobjdump")
    return found


def check_recorded(found: Sequence[Resources]) -> None:
    """The page says this of every kernel, on the compute capabilities that there is code for."""
    capabilities = {one.capability for one in found}
    _, stated = recorded(PAGE.read_text(encoding="utf-8"))
    assert [one for one in stated if one.capability in capabilities] == list(found)


def test_no_kernel_spills(library: Path) -> None:
    found = kernel_resources.read(library)
    assert {(one.kernel, one.type) for one in found} == {
        (kernel, kind) for kernel in KERNELS.values() for kind in TYPES.values()
    }
    assert spilling(found) == []


def test_page_says_what_the_compiler_gave(library: Path) -> None:
    compiler, _ = recorded(PAGE.read_text(encoding="utf-8"))
    here = kernel_resources.toolkit(library)
    if here != compiler:
        pytest.skip(f"compiled by CUDA {here}; docs/kernels.md has what {compiler} gave")
    check_recorded(kernel_resources.read(library))


@pytest.mark.parametrize("change", [{"registers": 1}, {"stack": 8}, {"shared": 16}, {"threads": 32}])
def test_page_that_says_otherwise_is_found(change: dict[str, Any]) -> None:
    _, stated = recorded(PAGE.read_text(encoding="utf-8"))
    assert passes(check_recorded, stated)
    assert not passes(check_recorded, [dataclasses.replace(stated[0], **change), *stated[1:]])
    assert not passes(check_recorded, stated[1:])


@pytest.mark.parametrize(("count", "expected"), [(4, []), (64, ["GCLU"])])
def test_spill_is_seen(count: int, expected: list[str], library: Path, tmp_path: Path) -> None:
    """In code of the same name, which has 32 registers: they are enough for 4 numbers, and not for 64."""
    if shutil.which("nvcc") is None:
        pytest.skip("there is no nvcc")
    source, compiled = tmp_path / "planted.cu", tmp_path / "planted.o"
    source.write_text(SPILLING.format(count=count))
    call("nvcc", "-gencode", "arch=compute_90,code=sm_90", "-c", source, "-o", compiled)
    found = kernel_resources.read(compiled)
    assert [(one.kernel, one.type, one.capability, one.threads) for one in found] == [("GCLU", "float32", 90, 1024)]
    assert [one.kernel for one in spilling(found)] == expected


def test_table_is_read_as_it_was_written() -> None:
    found = [ONE, dataclasses.replace(ONE, capability=120, registers=64)]
    part = kernel_resources.table(found, "13.0")
    page = f"<!-- resources: x -->\n{part}\n<!-- end of resources -->\n"
    assert recorded(page) == ("13.0", found)
    # A kernel that takes more threads on one device than on another cannot be written in a cell.
    unlike = [ONE, dataclasses.replace(ONE, capability=120, threads=128)]
    with pytest.raises(ValueError, match="128 or 256"):
        recorded(page.replace(part, kernel_resources.table(unlike, "13.0")))


def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernel_resources, "cuobjdump", lambda: "true")
    assert kernel_resources.main([str(tmp_path / "none.so")]) == 1
    assert "none.so: build it with `make native`" in capsys.readouterr().err
    (tmp_path / "empty.so").touch()
    assert kernel_resources.main([str(tmp_path / "empty.so")]) == 1
    assert "empty.so has no CUDA kernels" in capsys.readouterr().err
    monkeypatch.setattr(kernel_resources, "cuobjdump", lambda: None)
    assert kernel_resources.main([str(tmp_path / "other.so")]) == 1
    assert "pip install nvidia-cuda-cuobjdump" in capsys.readouterr().err
    with pytest.raises(kernel_resources.ResourcesError, match=r"new_kernel.*add it"):
        kernel_resources.named("_ZN2rc10new_kernelIfEEvv")


def test_page_without_the_part_says_what_to_write() -> None:
    with pytest.raises(marked.MarkersError, match="page.md has 0 parts named 'resources'"):
        marked.replaced("# Title\n", "resources", "", "page.md")
