"""Compiling in a process of its own: a library that aborts becomes an error in words, and Ctrl-C ends it at once."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import onnx

from rc_deploy.engine import lasting_log, logs
from rc_deploy.engine.channel import receive, views
from rc_deploy.engine.library import Loaded, installation, too_old, unavailable
from rc_deploy.engine.process import started
from rc_deploy.engine.refusal import Failure, ParserError
from rc_deploy.engine.settings import Compiled, OnPhase, OnProgress, Progress
from rc_deploy.errors import BuildError, OutputError, RcDeployError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from rc_deploy.engine.library import Library
    from rc_deploy.engine.process import WorkerProcess
    from rc_deploy.engine.settings import Settings


@dataclass
class _Heard:
    """What came from the worker: what the library said, what it was doing last, and the answer."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    doing: str = "parsing the graph"
    answer: dict[str, Any] = field(default_factory=dict)


def require_loaded(library: Library, worker: WorkerProcess, log: Path) -> Loaded:
    """Return what a worker's library says of itself, once it is loaded there; see `compile_graph` for `log`.

    Raises:
        UnsupportedError: it cannot be loaded.
        BuildError: it ended its process.
    """
    told = worker.first_message
    if told is None:
        words = logs.read(worker.files.output)
        kept = logs.keep(log, library.title, words)
        raise _ended(library.title, worker.wait(), _Heard(doing="loading"), words, kept)
    if "unloadable" in told:
        raise UnsupportedError(
            f"{library.title} cannot be loaded: {told['unloadable']}", f"Install it again: {installation(library)}"
        )
    facts = told["loaded"]
    return Loaded(facts["version"], tuple(facts["capabilities"]))


def why_not(library: Library) -> str:
    """Return why `library` cannot build here, in words; empty if it can. A process of its own loads it to see."""
    if problem := unavailable(library):
        return problem
    with started(library) as worker:
        told = worker.first_message
        if told is None:
            return f"loading it ended its process with {_cause(worker.wait())}"
    if "unloadable" in told:
        return f"it cannot be loaded: {told['unloadable']}"
    return too_old(library, told["loaded"]["version"])


def compile_graph(
    library: Library,
    graph: bytes,
    settings: Settings,
    log: Path,
    on_phase: OnPhase = lambda _: None,
    on_progress: OnProgress = lambda _: None,
    cache: bytes | None = None,
    ahead: WorkerProcess | None = None,
) -> Compiled:
    """Build an engine from a serialised, fully typed ONNX model without functions, in a process of its own.

    Args:
        library: to build with.
        graph: the model.
        settings: how.
        log: where everything that the library said is written if it fails; see `logs.keep`.
        on_phase: called with the name of each phase of the build.
        on_progress: called with the progress of each phase.
        cache: the library's measurements of earlier builds, empty for none yet; None to keep none.
        ahead: a worker of `library` that was started before, and compiles this graph only; None starts one.

    Raises:
        OutputError: what the processes share could not be written.
        BuildError, UnsupportedError: the library refuses the graph, see `messages`, or ended its process.
        KeyboardInterrupt: Ctrl-C; the process is ended, whatever it was doing.
    """
    given = [graph] if cache is None else [graph, cache]
    with nullcontext(ahead) if ahead else started(library) as worker:
        files, version = worker.files, require_loaded(library, worker, log).version
        who = f"{library.title} {version}"
        try:
            files.request.writelines(given)
            files.request.flush()
        except OSError as error:
            raise _unwritten(str(error.strerror)) from None
        worker.begin({"settings": settings.to_json(), "sizes": [len(blob) for blob in given]})
        heard = _listen(worker.channel, on_phase, on_progress)
        if "compiled" in heard.answer:
            return _compiled(heard, files.answer)
        if "unwritten" in heard.answer:
            raise _unwritten(heard.answer["unwritten"])
        words = lasting_log.read(files.log) + logs.read(files.output)
        kept = logs.keep(log, who, words)
        if "unsupported" in heard.answer:
            raise UnsupportedError(heard.answer["unsupported"], heard.answer["hint"])
        if "refused" in heard.answer:
            raise _refused(Failure(library.title, version, heard.answer["refused"], log=kept), graph, heard)
        raise _ended(who, worker.wait(), heard, words, kept)


def _listen(channel: BinaryIO, on_phase: OnPhase, on_progress: OnProgress) -> _Heard:
    """Hand on what comes from the worker until it has answered or ended."""
    heard = _Heard()
    while (message := receive(channel)) is not None:
        if "progress" in message:
            progress = Progress(**message["progress"])
            if not progress.done and not progress.finished:
                heard.doing = f"phase '{progress.name}'"
                on_phase(progress.name)
            on_progress(progress)
        elif "severity" in message:
            (heard.warnings if message["severity"] == "WARNING" else heard.errors).append(message["message"])
        else:
            heard.answer = message
            break  # what it takes to end is not waited for
    return heard


def _unwritten(why: str) -> OutputError:
    return OutputError(
        f"The files in memory that a build goes through could not be written: {why}. Nothing else was written.",
        "Close other programs; where a limit on the size of files is set, lift it (ulimit -f unlimited).",
    )


def _compiled(heard: _Heard, answer: BinaryIO) -> Compiled:
    facts = heard.answer["compiled"]
    types = {name: (kind, dtype) for name, (kind, dtype) in facts["layer_types"].items()}
    engine, cache = views(answer, heard.answer["sizes"])
    given = {"layer_types": types, "warnings": heard.warnings, "engine": engine, "timing_cache": bytes(cache)}
    return Compiled(**{**facts, **given})


def _refused(failure: Failure, graph: bytes, heard: _Heard) -> RcDeployError:
    """Return the error for a graph that the library would not have: a failure, with what was heard of it."""
    from rc_deploy.engine.messages import translate  # a build that succeeds has no use for it

    parser = tuple(ParserError(**error) for error in heard.answer["errors"])
    said = (*heard.errors, *(warning for warning in heard.warnings if "memory" in warning))
    failure = replace(failure, errors=said, parser_errors=parser)
    return translate(failure, onnx.load_model_from_string(graph))


def _ended(who: str, status: int, heard: _Heard, words: str, log: Path | None) -> Exception:
    """Return the error for a worker that ended without an answer; `who` is its library."""
    if status >= 0:
        return RuntimeError(f"The worker process failed with exit code {status}:\n{words[-4000:]}")
    last = "; ".join(heard.errors) or logs.last_words(words)
    said = f" It said: {last.rstrip('.')}." if last else ""
    place = f" Its whole log is in {log}." if log else ""
    memory = "The machine probably ran out of memory: build for smaller batches, or close other programs."
    hint = memory if -status == signal.SIGKILL else "Report it to its vendor with that log; another version may do."
    return BuildError(
        f"{who} ended its process with {_cause(status)} in {heard.doing}.{said}{place} Nothing was written.", hint
    )


def _cause(status: int) -> str:
    """Return the words for an exit status, e.g. "SIGABRT (Aborted)"."""
    return f"exit code {status}" if status >= 0 else f"{signal.Signals(-status).name} ({signal.strsignal(-status)})"
