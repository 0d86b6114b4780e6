"""200 seeded mutations of valid files: no crash, no hang, no traceback, and no wrong file called right."""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from conftest import SPEC
from mutations import (
    Mutation,
    cut_out,
    flipped,
    flipped_head,
    junk,
    lengthened,
    mutations,
    repeated,
    truncated,
)
from rc_deploy import data, manifest
from rc_deploy.engine import timing_cache
from rc_deploy.engine.timing_cache import Key
from rc_deploy.errors import exit_codes
from rc_deploy.files import digest, sha256
from rc_deploy.runners import OnnxRunner

MUTATIONS = 200
WORKER = Path(__file__).with_name("mutation_worker.py")
PATHS = {"onnx": "small.onnx", "typed": "m.fp16.onnx", "engine": "m.fp16.engine", "manifest": "m.fp16.engine.json"}
COMMANDS = {
    "onnx": ("inspect", "validate", "build"),
    "typed": ("inspect", "validate"),
    "engine": ("inspect", "check", "validate"),
    "manifest": ("inspect", "check", "validate"),
}


class Worker:
    """A process that runs commands; started again where one ended it.

    Args:
        script: that the process runs.
        longest: seconds that one command may take on one small file.
    """

    def __init__(self, script: Path = WORKER, longest: float = 30) -> None:
        self._command = [sys.executable, "-X", "faulthandler", str(script)]
        self._longest = longest
        self._process: subprocess.Popen[str] | None = None

    def call(self, command: str, path: Path, reference: Path) -> dict[str, Any]:
        """Return the answer; {"crash": ...} where it ended the process, {"hang": ...} where it took too long."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"command": command, "path": str(path), "reference": str(reference)}) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], self._longest)
        line = process.stdout.readline() if ready else ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.close()
        return {"crash": process.returncode} if ready else {"hang": self._longest}

    def _start(self) -> subprocess.Popen[str]:
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        return subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=nothing, text=True, cwd=WORKER.parent)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


@pytest.fixture(scope="module")
def files(small_onnx: Path, small_engine: Path) -> dict[str, bytes]:
    """Valid files by target, belonging together."""
    typed = small_engine.with_suffix(".onnx")
    record = json.loads(manifest.path_for(small_engine).read_text())
    record["typed_onnx"]["name"] = PATHS["typed"]
    text = json.dumps(record | {"proven": {}}, indent=2)
    return {
        "onnx": small_onnx.read_bytes(),
        "typed": typed.read_bytes(),
        "engine": small_engine.read_bytes(),
        "manifest": text.encode(),
    }


def lay_out(files: dict[str, bytes], folder: Path, mutation: Mutation | None = None) -> dict[str, Path]:
    """Write the files, one of them mutated, into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    paths = {target: folder / name for target, name in PATHS.items()}
    for target, content in files.items():
        paths[target].write_bytes(mutation.content if mutation and mutation.target == target else content)
    return paths


def entry(paths: dict[str, Path], target: str) -> Path:
    """Return the file that a user names: an engine for its manifest."""
    return paths["engine" if target == "manifest" else target]


def test_valid_files_are_called_right(worker: Worker, files: dict[str, bytes], tmp_path: Path) -> None:
    """Without this the next test could pass by refusing everything."""
    paths = lay_out(files, tmp_path / "files")
    for target, commands in COMMANDS.items():
        for command in commands:
            answer = worker.call(command, entry(paths, target), paths["onnx"])
            assert answer.get("right", True) is True, (target, command, answer)
            assert not answer.keys() & {"refused", "bug", "crash", "hang"}, (target, command, answer)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os, signal; input(); os.kill(os.getpid(), signal.SIGSEGV)", "crash"),
        ("import time; time.sleep(60)", "hang"),
        ("print('{\"bug\": 1}', flush=True); input()", "bug"),
    ],
)
def test_crashes_hangs_and_bugs_are_seen(code: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(code)
    worker = Worker(tmp_path / "worker.py", longest=2)
    assert expected in worker.call("inspect", tmp_path, tmp_path)
    worker.close()


@pytest.mark.timeout(600)
def test_mutated_files(worker: Worker, files: dict[str, bytes], tmp_path: Path) -> None:
    wrong, answers = [], Counter[str]()
    reference = tmp_path / "reference.onnx"
    reference.write_bytes(files["onnx"])
    for mutation in mutations(files, MUTATIONS):
        paths = lay_out(files, tmp_path / "files", mutation)
        for command in COMMANDS[mutation.target]:
            answer = worker.call(command, entry(paths, mutation.target), reference)
            answers[f"{command}: {next(iter(answer))}"] += 1
            if problem := fault(answer, mutation, files, paths):
                wrong.append(f"{mutation.name}, {command}: {problem}")
        if mutation.target == "engine":  # again as a forger would leave it, with its SHA-256 in the manifest
            sign(paths)
            wrong += [
                f"{mutation.name}, signed, {command}: {problem}"
                for command in ("inspect", "check")
                if (problem := broken(worker.call(command, paths["engine"], reference)))
            ]
    print(dict(answers))
    assert not wrong, "\n".join(wrong)


def sign(paths: dict[str, Path]) -> None:
    record = json.loads(paths["manifest"].read_text())
    record["engine"]["sha256"] = sha256(paths["engine"])
    paths["manifest"].write_text(json.dumps(record))


def broken(answer: dict[str, Any]) -> str:
    """Return in words how a command broke, or what its refusal lacks; empty where it is as it should be."""
    for word in ("crash", "hang", "bug"):
        if word in answer:
            return f"{word}: {answer[word]}"
    if "refused" in answer and (not answer["hint"] or answer["code"] not in exit_codes()):
        return f"a refusal without a hint or a documented exit code: {answer}"
    text = answer.get("refused", "")
    return f"a message of {len(text)} characters: {text[:200]!r}" if "\n" in text or len(text) > 5000 else ""


def fault(answer: dict[str, Any], mutation: Mutation, files: dict[str, bytes], paths: dict[str, Path]) -> str:
    """Return in words what is wrong with an answer; empty where it is as it should be."""
    if "refused" in answer or broken(answer):
        return broken(answer)
    if not answer.get("right", True):
        return ""
    if mutation.target in ("onnx", "typed"):
        return graph_fault(answer, mutation, files)
    if mutation.target == "engine":
        # `inspect`, `check` and `validate` all hold an engine against its manifest's SHA-256.
        return "" if mutation.content == files["engine"] else f"other bytes than were built: {answer}"
    return manifest_fault(answer, mutation, files, paths)


def graph_fault(answer: dict[str, Any], mutation: Mutation, files: dict[str, bytes]) -> str:
    """Hold a graph that a validation called right against the reference, on images that it has not seen."""
    if "tolerance" not in answer:  # nothing was said of what it computes
        return ""
    images = data.normalise(data.load("random:7", spec=SPEC).head(4).images, SPEC)
    logits = []
    for content in (files["onnx"], mutation.content):
        with OnnxRunner(onnx.load_model_from_string(content), 1, bodies=True) as runner:
            logits.append(runner.run(images))
    error = float(np.abs(logits[0] - logits[1]).max())
    return "" if error <= 2 * answer["tolerance"] else f"called right, and is off by {error}"


def manifest_fault(answer: dict[str, Any], mutation: Mutation, files: dict[str, bytes], paths: dict[str, Path]) -> str:
    """A manifest that passes must still vouch for these files, this library, and a GPU and platform such as these."""
    record = json.loads(mutation.content.decode("utf-8", "surrogatepass"))
    good = json.loads(files["manifest"])
    if record["engine"]["sha256"] != digest(files["engine"]) or record["typed_onnx"]["sha256"] != sha256(
        paths["typed"]
    ):
        return f"the SHA-256 of other files: {answer}"
    if "reasons" not in answer:
        return ""
    same = all(record[key] == good[key] for key in ("backend", "platform", "plugins", "format_version"))
    return "" if same and "8.9" in record["compute_capabilities"] else f"called right: {mutation.content[:300]!r}"


def test_mutated_timing_caches(rng: np.random.Generator, tmp_path: Path) -> None:
    """Only TensorRT keeps one, whose reader trusts it: nothing but what was measured may reach it."""
    path, key = tmp_path / "cache", Key("tensorrt", "11.1.0", "H200, compute capability 9.0")
    measured = rng.bytes(2000)
    timing_cache.write(path, key, measured)
    content = path.read_bytes()
    for mutate in (flipped, flipped_head, truncated, cut_out, repeated, junk, lengthened):
        for _ in range(30):
            path.write_bytes(mutate(content, rng))
            found, problem = timing_cache.read(path, key)
            assert found == b"" or path.read_bytes() == content, mutate
            assert problem or path.stat().st_size == 0 or path.read_bytes() == content, mutate
