"""A wrong kernel is caught: each fault, planted in a copy of plugins/cuda, fails one of the kernels' host tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from native_build import built_with_cuda

PLUGINS = Path(__file__).parents[2] / "plugins"
TESTS = PLUGINS / "tests" / "cuda"

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to compile mutants")


def passes(folder: Path, test: str, chosen: str, flags: tuple[str, ...] = (), patience: float = 60) -> bool:
    """Compile one of the host tests against the kernels in `folder` and run what `chosen` selects of it."""
    program = folder / test
    command = ["g++", "-std=c++20", "-O0", *flags, f"-I{folder}", f"-I{TESTS}", f"-I{PLUGINS / 'include'}"]
    command += [str(TESTS / f"{test}.cpp"), f"@{built_with_cuda('rc_cuda_tests.flags')}", "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    # A wait for a thread that never comes is a failure too.
    run = [str(program), f"--gtest_filter={chosen}", "--gtest_fail_fast"]
    try:
        found = subprocess.run(run, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        return False
    assert "Running 0 tests" not in found.stdout
    return found.returncode == 0


def copied(folder: Path, header: str = "", right: str = "", wrong: str = "") -> Path:
    """The kernels' headers with one fault, or none."""
    for source in (PLUGINS / "cuda").glob("*.h"):
        text = source.read_text()
        if source.name == header:
            assert right in text, f"{header} has changed: plant another fault"
            text = text.replace(right, wrong, 1)
        (folder / source.name).write_text(text)
    return folder


@pytest.mark.parametrize("test", ["gclu_test", "calibration_test", "tail_test"])
def test_kernels_as_they_are_pass(test: str, tmp_path: Path) -> None:
    assert passes(copied(tmp_path), test, "*/1.*", patience=400)


@pytest.mark.parametrize(
    ("header", "right", "wrong", "test"),
    [
        # an element behind the array is written
        ("vectors.h", "first(v) + width <= count; }", "first(v) < count; }", "gclu_test"),
        # elements of the last vector are left out
        ("pack.h", "if (vectors.holds(first + i)) {", "if (vectors.holds(first + i + 1)) {", "gclu_test"),
        # every second round of a thread is left out
        ("gclu.h", "k < kGcluVectors; ++k", "k < kGcluVectors; k += 2", "gclu_test"),
        # the sign of the calibration of negative numbers
        ("narrow_math.h", "with_sign(t * lower_tail(t), x)", "t * lower_tail(t)", "gclu_test"),
        # another epsilon
        ("functions.h", "log_var), epsilon)", "log_var), 2.0F * epsilon)", "calibration_test"),
        # the shortcut's sign
        ("functions.h", "larger(sum + shortcut, 0.0F)", "larger(sum - shortcut, 0.0F)", "calibration_test"),
        # a plane's coefficients are used for the next one too
        ("planes.h", "boundary += table.positions();", "boundary += 2 * table.positions();", "calibration_test"),
        # the plane of an element, where a product is rounded down
        ("planes.h", "? plane + 1 : plane;", "? plane : plane;", "vectors_test"),
        # the second round of a block
        ("calibration.h", "start += kCalibrationVectors * context.threads()", "start = end", "calibration_test"),
        # the mean of one position more
        ("tail.h", "total / static_cast<float>(tensors.positions)", "total / (1.0F + tensors.positions)", "tail_test"),
        # A is summed before it has arrived
        ("tail.h", "context.template wait<1>();", "context.template wait<2>();", "tail_test"),
        # means reach the first block of a cluster only
        ("tail.h", "context.peer(means, peer)", "context.peer(means, 0 * peer)", "tail_test"),
        # log_var from mu's rows
        ("tail.h", "{w2, w2 + channels * hidden}", "{w2, w2}", "tail_test"),
        # the bias of another channel
        ("tail.h", "tensors.b2 + begin;", "tensors.b2;", "tail_test"),
        # a plane that a block sums: the last thread's part
        ("tail_steps.h", "part < parts; ++part", "part < parts - 1; ++part", "tail_test"),
    ],
)
def test_wrong_kernel_is_caught(header: str, right: str, wrong: str, test: str, tmp_path: Path) -> None:
    assert not passes(copied(tmp_path, header, right, wrong), test, "*/0.*:*/1.*:Plane*")


def test_indices_stay_inside_memory(tmp_path: Path) -> None:
    """ASan and UBSan, for the one test that has every way to read and write a tensor, at odd shapes and addresses."""
    flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    assert passes(copied(tmp_path), "tail_test", "*", flags, patience=400)
    # Shared memory is asked for that ends before the last of the shortcut, which nothing lies behind.
    folder = copied(tmp_path, "tail_plan.h", "layout.bytes = end;", "layout.bytes = end - 2 * kVectorBytes;")
    assert not passes(folder, "tail_test", "*/1.AnyAlignment", flags)


def test_missing_barrier_is_a_data_race(tmp_path: Path) -> None:
    flags = ("-O1", "-g", "-fsanitize=thread")
    assert passes(copied(tmp_path), "tail_test", "*/1.OneBlock*:*/1.ACluster*", flags, patience=400)
    barrier = "groups, partials);\n  context.barrier();"
    folder = copied(tmp_path, "tail.h", barrier, barrier.partition("\n")[0])
    assert not passes(folder, "tail_test", "*/1.OneBlock*", flags)
