"""claims.toml and docs/gpu-status.md: whatever they name exists, and every test that wants a GPU stands for a claim."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import gpu_check
from claims import Claim, ClaimError, load
from rc_training import recipe as recipes

ROOT = Path(__file__).parents[1]
CLAIMS = load()
PARTS = {part.name: part for part in gpu_check.parts(rehearse=False)}
CHECKED = "benchmarks/gpu_check.py"
MADE = ("build/", "benchmarks/results")  # what commands make


def unknown_in(command: str) -> list[str]:
    """Return what a command names that is not there: files, make's targets and variables, parts, options."""
    program, *words = shlex.split(command)
    if program == "make":
        return _unknown_to_make(words)
    if program == "python":
        file, *words = words
        text = (ROOT / file).read_text(encoding="utf-8") if (ROOT / file).is_file() else ""
    elif program == "rc-deploy":
        file, *words = words
        text = help_of(file)
    else:
        return [program]
    unknown = [] if text else [file]
    unknown += [word for word in words if word.startswith("--") and not re.search(rf"{word}\b", text)]
    if file == CHECKED and "--only" in words:
        unknown += [word for word in words[words.index("--only") + 1 :][:1] if word not in PARTS]
    return unknown


def _unknown_to_make(words: list[str]) -> list[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    variables = [word.partition("=")[0] for word in words if "=" in word]
    targets = [word for word in words if "=" not in word]
    unknown = [target for target in targets if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE)]
    return unknown + [name for name in variables if f"$({name})" not in makefile and f"$(if $({name})" not in makefile]


@cache
def help_of(command: str) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "rc_deploy", command, "--help"], capture_output=True, text=True, timeout=120
    )
    return found.stdout if found.returncode == 0 else ""


def unknown_in_text(text: str) -> list[str]:
    """Return what stands in `backticks` or on a line of code, looks like a command or a path, and is not there."""
    code = re.findall(r"`([^`]+)`", text) + re.findall(r"^ {4}(\S[^#\n]*)", text, re.MULTILINE)
    unknown = []
    for words in (" ".join(found.split()) for found in code):
        if re.match(r"(make|python|rc-deploy) ", words):
            unknown += unknown_in(words)
        elif "/" in words and " " not in words and not words.startswith(MADE):
            unknown += [] if (ROOT / words).exists() else [words]
    return unknown


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.claim[:60])
def test_what_a_claim_names_exists(claim: Claim) -> None:
    assert unknown_in_text(f"{claim.claim} {claim.meanwhile} `{claim.command}`") == []
    assert set(claim.parts) <= set(PARTS)
    if claim.training:
        assert recipes.load(claim.training.recipe).epochs == 200


def test_what_the_page_says_of_running_exists() -> None:
    page = (ROOT / "docs" / "gpu-status.md").read_text(encoding="utf-8")
    assert unknown_in_text(page.partition("## Running it")[2]) == []


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("`make gpu-check AGAIN=1`", []),
        ("`make gpu-chek OTHER=1`", ["gpu-chek", "OTHER"]),
        ("`python benchmarks/gpu_check.py --only tails --rehearse`", []),
        ("`python benchmarks/gpu_check.py --only tail --rehears`", ["--rehears", "tail"]),
        ("`python benchmarks/none.py`", ["benchmarks/none.py"]),
        ("    python benchmarks/none.py  # in a block", ["benchmarks/none.py"]),
        ("`rc-deploy build --strip-weights`", []),
        ("`rc-deploy build --no-such`", ["--no-such"]),
        ("`rc-deploy none`", ["none"]),
        ("`plugins/cuda/tail_plan.h`, `plugins/cuda/none.h`", ["plugins/cuda/none.h"]),
    ],
)
def test_what_does_not_exist_is_found(text: str, unknown: list[str]) -> None:
    assert unknown_in_text(text) == unknown


@cache
def gpu_tests() -> dict[str, list[str]]:
    """Names of all tests of tests/gpu by file; of a file that wants a package that is missing, without parameters."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/gpu"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert "error" not in listed.stdout.lower(), listed.stdout[-2000:]
    found: dict[str, list[str]] = {}
    for line in listed.stdout.splitlines():
        if match := re.match(r"(tests/gpu/\w+\.py)::(.+)", line):
            found.setdefault(match[1], []).append(match[2])
    for path in ROOT.glob("tests/gpu/test_*.py"):
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
        names = [f"{node.name}[]" for node in nodes if isinstance(node, ast.FunctionDef)]
        found.setdefault(path.relative_to(ROOT).as_posix(), [name for name in names if name.startswith("test_")])
    return found


def proven_by(claim: Claim) -> dict[str, list[str]]:
    """The tests that prove a claim, by file."""
    files = {word for name in claim.parts for word in PARTS[name].command if word.startswith("tests/")}
    return {file: [name for name in gpu_tests()[file] if re.match(claim.tests, name)] for file in files}


def test_every_test_that_wants_a_gpu_stands_for_a_claim() -> None:
    proven: dict[str, set[str]] = {}
    for claim in CLAIMS:
        for file, names in proven_by(claim).items():
            assert names, f"{claim.claim}: no test of {file} is matched by {claim.tests}"
            proven.setdefault(file, set()).update(names)
    assert {file: set(names) - proven.get(file, set()) for file, names in gpu_tests().items()} == {
        file: set() for file in gpu_tests()
    }


def test_types_are_told_apart() -> None:
    """bfloat16's tests do not prove what is claimed of float16."""
    (claim,) = [claim for claim in CLAIMS if claim.claim.startswith("GCLU in float16")]
    assert re.match(claim.tests, "test_gclu[shifts0-1-float16-none]")
    assert re.match(claim.tests, "test_gclu_of_every_number[float16-tanh]")
    assert not re.match(claim.tests, "test_gclu[shifts0-1-bfloat16-none]")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ('claim = "a"\nfigurs = []', "claim 1 has figurs, which `Claim` does not know"),
        ('command = "make test"', "claim 1: 'claim' is missing"),
        ('claim = "a"\ncommand = "make test"', "claim 1: a command belongs to parts"),
        ('claim = "a"\ntests = "test_x"', "claim 1: tests and figures are those of parts"),
    ],
)
def test_claim_that_is_not_written_right_is_refused(entry: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(f"[[claim]]\n{entry}\n")
    with pytest.raises(ClaimError, match=re.escape(problem)):
        load(path)
