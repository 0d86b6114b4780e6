"""The library runs in a process of its own: what ends it, and that nothing else ends with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx.inliner
import pytest

from rc_deploy.artefacts import Kind, recognise
from rc_deploy.engine import BuildOptions, build, logs
from rc_deploy.engine.contained import compile_graph, why_not
from rc_deploy.engine.library import LIBRARIES
from rc_deploy.engine.settings import Progress, Settings
from rc_deploy.errors import BuildError, UnsupportedError
from rc_deploy.specs import BatchRange, Precision

FP16 = BuildOptions(precision=Precision.FP16, backend="tensorrt-rtx", compute_capabilities=("8.6",))
RTX = LIBRARIES["tensorrt-rtx"]
SETTINGS = Settings((BatchRange(1, 8, 64),), ("8.6",))
# Registered in the worker before it starts: TensorRT-RTX's parser aborts on a node of that name.
PLUGIN = """
    import tensorrt_rtx as trt

    class Plugin(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
        def __init__(self):
            for base in type(self).__bases__:
                base.__init__(self)
            self.name, self.plugin_version, self.plugin_namespace, self.num_outputs = "GCLU", "1", "rc", 1

        def get_capability_interface(self, kind):
            return self

    class Creator(trt.IPluginCreatorV3One):
        def __init__(self):
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_version, self.plugin_namespace = "GCLU", "1", "rc"
            self.field_names = trt.PluginFieldCollection([])

        def create_plugin(self, name, fields, phase):
            return Plugin()

    creator = Creator()
    trt.get_plugin_registry().register_creator(creator, "rc")
"""


@pytest.fixture
def in_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Run Python text in the worker before everything else, as any package of a user's environment may."""

    def plant(text: str) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        guard = "import sys\nif 'rc_deploy.engine.worker' in sys.orig_argv:\n"
        (folder / "sitecustomize.py").write_text(guard + textwrap.indent(textwrap.dedent(text), "    "))
        monkeypatch.syspath_prepend(str(folder))

    return plant


def flat(path: Path) -> bytes:
    content: bytes = onnx.inliner.inline_local_functions(onnx.load(path)).SerializeToString()
    return content


def test_an_abort_of_the_parser_is_an_error_in_words(
    small_onnx: Path, tmp_path: Path, in_worker: Callable[[str], None]
) -> None:
    """A real one: the parser of TensorRT-RTX and a plugin of a node's name."""
    in_worker(PLUGIN)
    with pytest.raises(BuildError) as caught:
        compile_graph(RTX, small_onnx.read_bytes(), SETTINGS, tmp_path / "m.engine.log")
    message = str(caught.value)
    assert re.search(r"TensorRT-RTX \S+ ended its process with SIG(ABRT|SEGV) \(.+\) in parsing the graph\.", message)
    assert f"Its whole log is in {tmp_path / 'm.engine.log'}." in message
    assert "Fatal Python error" in (tmp_path / "m.engine.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL])
def test_any_signal_is_named(
    number: signal.Signals, small_onnx: Path, tmp_path: Path, in_worker: Callable[[str], None]
) -> None:
    """In the middle of a build; earlier files stay as they were."""
    build(small_onnx, tmp_path / "m.engine", FP16)
    earlier = contents(tmp_path)
    in_worker(f"""
        import os
        from rc_deploy.engine import compiler
        compiler._layer_types = lambda network: os.kill(os.getpid(), {int(number)})
    """)
    with pytest.raises(BuildError, match=rf"{number.name} .* in phase '") as caught:
        build(small_onnx, tmp_path / "m.engine", FP16)
    assert ("ran out of memory" in caught.value.hint) == (number is signal.SIGKILL)
    assert {name: data for name, data in contents(tmp_path).items() if name in earlier} == earlier
    assert set(contents(tmp_path)) - set(earlier) == {"m.engine.log"}


def test_a_worker_that_ends_before_it_is_asked_is_an_error_in_words(
    small_onnx: Path, tmp_path: Path, in_worker: Callable[[str], None]
) -> None:
    """It is started before the graph is read."""
    in_worker("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    with pytest.raises(BuildError, match=r"ended its process with SIGSEGV .* Nothing was written"):
        build(small_onnx, tmp_path / "m.engine", FP16)
    assert {file.name for file in tmp_path.iterdir()} <= {"site", "m.engine.log"}


def test_a_library_that_cannot_be_loaded_is_named(
    small_onnx: Path, tmp_path: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker("sys.modules['tensorrt_rtx'] = None\n")
    with pytest.raises(UnsupportedError, match=r"TensorRT-RTX cannot be loaded: import of \S+ halted") as caught:
        build(small_onnx, tmp_path / "m.engine", FP16)
    assert "rc-deploy[rtx]" in caught.value.hint


def test_a_version_that_is_too_old_is_refused(
    small_onnx: Path, tmp_path: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker("import tensorrt_rtx\ntensorrt_rtx.__version__ = '1.3.9'\n")
    with pytest.raises(UnsupportedError, match=r"version 1\.3\.9 is installed, 1\.4 or later is needed"):
        build(small_onnx, tmp_path / "m.engine", FP16)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"^$"),
        ("sys.modules['tensorrt_rtx'] = None", r"^it cannot be loaded: import of \S+ halted"),
        ("import tensorrt_rtx\ntensorrt_rtx.__version__ = '1.3.9'", r"^version 1\.3\.9 is installed, 1\.4 or later is"),
        ("import os\nos.abort()", r"^loading it ended its process with SIGABRT \(Aborted\)$"),
        ("import os\nos._exit(3)", r"^loading it ended its process with exit code 3$"),
    ],
)
def test_why_a_library_cannot_build_is_said_by_its_process(
    text: str, reason: str, in_worker: Callable[[str], None]
) -> None:
    in_worker(text + "\n")
    assert re.search(reason, why_not(RTX))


def test_the_library_is_loaded_in_the_worker_alone(small_onnx: Path, tmp_path: Path) -> None:
    """What it does to a process, from loading on, it does to that one."""
    program = """
        import sys
        from pathlib import Path
        from rc_deploy.engine import BuildOptions, build
        build(Path(sys.argv[1]), Path(sys.argv[2]), BuildOptions(backend="tensorrt-rtx"))
        print([name for name in sys.modules if name.startswith("tensorrt")])
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(small_onnx), str(tmp_path / "m.engine")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_bug_in_the_worker_keeps_its_traceback(
    small_onnx: Path, tmp_path: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker("from rc_deploy.engine import compiler\ncompiler._layer_types = lambda network: 1 / 0\n")
    with pytest.raises(RuntimeError, match=r"exit code 1:\n[\s\S]*ZeroDivisionError"):
        compile_graph(RTX, flat(small_onnx), SETTINGS, tmp_path / "m.engine.log")


def test_progress_comes_through(small_onnx: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    phases: list[str] = []
    compile_graph(RTX, flat(small_onnx), SETTINGS, tmp_path / "log", phases.append, seen.append)
    assert phases[0] == "Building engine"
    nested = {progress.name: progress.parent for progress in seen}
    assert nested["Building engine"] is None
    assert "Building engine" in nested.values()
    for name in nested:
        steps = [progress for progress in seen if progress.name == name]
        assert steps[-1].finished
        assert all(0 <= progress.done <= progress.steps for progress in steps)
    assert list(tmp_path.iterdir()) == []


def test_a_second_build_of_a_process_has_its_own_log(small_onnx: Path, tmp_path: Path) -> None:
    """In one process these libraries keep the first logger that they were ever given."""
    model = onnx.load(small_onnx)
    model.graph.node.append(onnx.helper.make_node("Det", ["logits"], ["det"], name="determinant"))
    compile_graph(RTX, flat(small_onnx), SETTINGS, tmp_path / "first.log")
    with pytest.raises(BuildError, match="operator Det"):
        compile_graph(RTX, model.SerializeToString(), SETTINGS, tmp_path / "second.log")
    assert "Det" in (tmp_path / "second.log").read_text()


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [file for file in folder.iterdir() if file.is_file()]
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


INTERRUPTED = """
    import os, signal, sys
    from rc_deploy.engine import contained
    listen = contained._listen
    def interrupting(channel, on_phase, on_progress):
        return listen(channel, lambda name: (on_phase(name), {what}), on_progress)
    contained._listen = interrupting
    from rc_deploy.cli import main
    main()
"""


@pytest.mark.parametrize(
    "what", ["os.kill(os.getpid(), signal.SIGINT)", "os.killpg(0, signal.SIGINT)"], ids=["alone", "from a terminal"]
)
def test_ctrl_c_in_mid_build_leaves_earlier_files_alone(what: str, small_onnx: Path, tmp_path: Path) -> None:
    """A real SIGINT when the library reports its first phase; a terminal sends it to the worker as well."""
    build(small_onnx, tmp_path / "m.engine", FP16)
    earlier = contents(tmp_path)
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED.format(what=what)),
         "build", small_onnx, "--fp16", "-o", tmp_path / "m.engine"],
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job would ignore it
    )  # fmt: skip
    assert result.returncode == 130, result.stderr
    assert "Interrupted" in result.stderr
    assert "Traceback" not in result.stderr
    assert contents(tmp_path) == earlier


def test_a_killed_parent_leaves_no_worker_behind(small_onnx: Path, tmp_path: Path) -> None:
    """The worker, which the parent's end cannot tell anything, writes its own number and sleeps."""
    site, number = tmp_path / "site", tmp_path / "number"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
            import os, sys, time
            if 'rc_deploy.engine.worker' in sys.orig_argv:
                from rc_deploy.engine import compiler
                def sleep(network):
                    with open({str(number)!r}, "w") as file:
                        file.write(str(os.getpid()))
                    time.sleep(60)
                compiler._layer_types = sleep
        """)
    )
    parent = subprocess.Popen(
        [sys.executable, "-m", "rc_deploy", "build", small_onnx, "--fp16", "-o", tmp_path / "m.engine"],
        env={**os.environ, "PYTHONPATH": str(site)},
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: number.exists() and number.read_text() != "")
    worker = int(number.read_text())
    assert alive(worker)
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(worker))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["number", "site"]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_the_worker_imports_what_it_needs() -> None:
    script = "import rc_deploy.engine.worker, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not set(found) & {"onnx", "numpy", "torch", "onnxruntime", "rich", "typer", "tensorrt_rtx"}


def test_the_worker_takes_no_module_of_the_working_folder(
    small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "tensorrt_rtx", "ctypes"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('from the working folder')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part])
    assert compile_graph(RTX, flat(small_onnx), SETTINGS, tmp_path / "log").engine


def test_a_log_replaces_nothing_but_a_log(tmp_path: Path) -> None:
    place = logs.place_for(tmp_path / "m.engine")
    assert logs.keep(place, "TensorRT", "first") == place
    assert recognise(place) is Kind.LOG
    assert logs.keep(place, "TensorRT", "second") == place
    assert place.read_text().endswith("\nsecond")
    place.write_text("notes of mine")
    elsewhere = logs.keep(place, "TensorRT", "third")
    assert elsewhere is not None
    assert elsewhere.read_text().endswith("\nthird")
    elsewhere.unlink()
    assert place.read_text() == "notes of mine"
