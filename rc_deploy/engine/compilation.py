"""The compilations of one build: they share a log's place and what earlier builds measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rc_deploy.engine import logs, timing_cache
from rc_deploy.engine.contained import compile_graph

if TYPE_CHECKING:
    from pathlib import Path

    from rc_deploy.engine.library import Library
    from rc_deploy.engine.process import WorkerProcess
    from rc_deploy.engine.settings import Compiled, OnPhase, OnProgress, Settings


class Compilation:
    """Compiles graphs for one engine, with the measurements in a timing cache.

    They are stored after the engine, by `store`, so that a build that fails leaves the file as it was.

    Args:
        library: to build with.
        settings: how.
        output: the engine, beside which the log of a failure goes.
        cache: file of the library's measurements; None for none.
        on_phase: called with the name of each phase of a compilation.
        on_progress: called with the progress of each phase.
        ahead: worker of the library for the first compilation.
    """

    def __init__(
        self,
        library: Library,
        settings: Settings,
        output: Path,
        cache: Path | None,
        on_phase: OnPhase,
        on_progress: OnProgress,
        ahead: WorkerProcess,
    ) -> None:
        self._library, self._settings, self._log = library, settings, logs.place_for(output)
        self._cache, self._on_phase, self._on_progress = cache, on_phase, on_progress
        self._ahead: WorkerProcess | None = ahead
        self._measured: bytes | None = None
        self._problem = ""
        if cache is not None:
            self._key = timing_cache.Key.here(library)
            self._measured, self._problem = timing_cache.read(cache, self._key)

    def __call__(self, graph: bytes, plugin_library: Path | None = None) -> Compiled:
        """Return what the library makes of a serialised graph; raises as `contained.compile_graph` does."""
        settings = replace(self._settings, plugin_library=str(plugin_library) if plugin_library else None)
        ahead, self._ahead = self._ahead, None
        compiled = compile_graph(
            self._library, graph, settings, self._log, self._on_phase, self._on_progress, self._measured, ahead
        )
        if self._cache is not None:
            self._measured = compiled.timing_cache
        if compiled.cache_refused:
            self._problem = f"is refused by {self._library.title}"
        return replace(compiled, weights=graph) if settings.strip_weights else compiled

    def store(self) -> list[str]:
        """Write the measurements, and return in words what is to be known of it. Raises OutputError."""
        if self._cache is None or self._measured is None:
            return []
        said = []
        if self._problem:
            aside = timing_cache.set_aside(self._cache)
            said = [f"The timing cache {self._cache} {self._problem}: it was set aside as {aside}."]
        timing_cache.write(self._cache, self._key, self._measured)
        return said
