"""A wrong glue is caught: each fault, planted in librc_ort's CUDA side, fails the tests that drive it on the host."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from native_build import built_with_cuda, call

PLUGINS = Path(__file__).parents[2] / "plugins"

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to compile mutants")


def failures(folder: Path, source: str, right: str = "", wrong: str = "") -> str:
    """Build the tests around a source with one fault, or none; return what failed, or how else they ended."""
    flags = built_with_cuda("rc_ort_cuda_tests.flags")
    objects = list(flags.parents[2].glob("onnxruntime/CMakeFiles/rc_ort_objects.dir/*.o"))
    others = [path for path in objects if path.name != f"{source}.o"]
    assert len(others) == len(objects) - 1, objects
    text = (PLUGINS / "onnxruntime" / source).read_text()
    assert right in text, f"{source} has changed: plant another fault"
    (folder / source).write_text(text.replace(right, wrong, 1))
    program = folder / "mutant"
    includes = [f"-I{PLUGINS / 'onnxruntime'}", f"-I{PLUGINS / 'include'}"]
    call("g++", "-std=c++17", "-DRC_ORT_CUDA", *includes, folder / source, *others, f"@{flags}", "-o", program)
    try:
        found = subprocess.run([str(program), "--gtest_brief=1"], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:  # a fault that writes outside its arrays may leave the heap locked
        return "did not end"
    failed = [line for line in found.stdout.splitlines() if line.startswith("[  FAILED  ]")]
    return "\n".join(failed) or (f"exit code {found.returncode}" if found.returncode else "")


@pytest.mark.parametrize("source", ["operators.cpp", "operators_cuda.cpp", "custom_op.cpp", "library.cpp"])
def test_the_glue_as_it_is_passes(source: str, tmp_path: Path) -> None:
    assert failures(tmp_path, source) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        # the default stream in place of ONNX Runtime's
        ("  return stream;", "  return nullptr;"),
        # a workspace of one sample only
        ("rc_cuda_calibrated_tail_workspace(operands.batch,", "rc_cuda_calibrated_tail_workspace(1,"),
        # the workspace is not given back
        ("allocator_.Free(&allocator_, address_);", ""),
        # a launch that failed is taken for a success
        ("  if (status != RC_OK) {", "  if (status == RC_UNSUPPORTED) {"),
        # another approximation
        ("call.attributes.approximate", "RC_NONE"),
        # another type
        ("call.type,", "RC_FLOAT32,"),
        # the shortcut is A itself
        ("&operands, call.inputs[3], stream_of", "&operands, call.inputs[0], stream_of"),
    ],
)
def test_a_fault_in_the_kernels_calls_is_caught(right: str, wrong: str, tmp_path: Path) -> None:
    assert failures(tmp_path, "operators_cuda.cpp", right, wrong)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        # mu and log_var swapped
        ("mu = call.inputs[1];\n  operands.log_var = call.inputs[2];",
         "mu = call.inputs[2];\n  operands.log_var = call.inputs[1];"),
        # the default epsilon, in each of the two kinds of operands
        ("elements(a, 2);\n  operands.epsilon = call.attributes.epsilon;",
         "elements(a, 2);\n  operands.epsilon = 1e-5F;"),
        ("call.shapes[2][0];\n  operands.epsilon = call.attributes.epsilon;",
         "call.shapes[2][0];\n  operands.epsilon = 1e-5F;"),
        # another type
        ("call.type;\n  return operands;\n}\n\nrc_tail", "RC_FLOAT32;\n  return operands;\n}\n\nrc_tail"),
        ("call.type;\n  return operands;\n}\n\n}", "RC_FLOAT32;\n  return operands;\n}\n\n}"),
        # the last dimension is taken for all positions
        ("positions = elements(a, 2);\n  operands.epsilon", "positions = a[2];\n  operands.epsilon"),
        ("positions = elements(a, 2);\n  operands.hidden", "positions = a[2];\n  operands.hidden"),
        # the hidden layer's size from W1's other dimension
        ("operands.hidden = call.shapes[2][0];", "operands.hidden = call.shapes[2][1];"),
        # the weights of the two layers swapped
        ("operands.w1 = call.inputs[2];", "operands.w1 = call.inputs[4];"),
        # the output lies on an input
        ("y = call.output;", "y = const_cast<void*>(call.inputs[0]);"),
    ],
)  # fmt: skip
def test_a_fault_in_the_operands_is_caught(right: str, wrong: str, tmp_path: Path) -> None:
    assert failures(tmp_path, "operators.cpp", right, wrong)


@pytest.mark.parametrize(
    ("source", "right", "wrong"),
    [
        # the device's kernels say that they may write in place
        ("custom_op.cpp", "if (provider.on_host)", "if (true)"),
        # they get no allocator
        ("custom_op.cpp", "node->allocator.reset(allocator);", ""),
        # they are taken for the CPU's
        ("library.cpp", "&Operator::compute_on_cuda, false", "&Operator::compute_on_cuda, true"),
        # the CPU's kernels for the device's tensors
        ("library.cpp", "&Operator::compute_on_cuda", "&Operator::compute_on_cpu"),
        # inputs are wanted in the CPU's memory
        ("custom_op.cpp", "return OrtMemTypeDefault; }", "return OrtMemTypeCPUInput; }"),
        # the allocator is kept when its node is gone
        ("custom_op.cpp", "{nullptr, ort().ReleaseAllocator}", "{nullptr, [](OrtAllocator*) {}}"),
        # shapes are not looked at
        ("custom_op.cpp", "  node.op.description.check_shapes(call.shapes);", ""),
    ],
)
def test_a_fault_around_them_is_caught(source: str, right: str, wrong: str, tmp_path: Path) -> None:
    assert failures(tmp_path, source, right, wrong)
