"""Benchmarks: how fast artefacts are, side by side, and how sure one can be of it."""

from rc_deploy.bench.records import SCHEMA, SCHEMA_VERSION, Artefact, Bench, BenchOptions, Method, Startup, Timing
from rc_deploy.bench.run import bench

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "Artefact",
    "Bench",
    "BenchOptions",
    "Method",
    "Startup",
    "Timing",
    "bench",
]
