"""The engine stage: from an exported ONNX file to an engine of an inference library, and proof of its precision."""

from rc_deploy.engine.builder import BuildOptions, BuildResult, build

__all__ = ["BuildOptions", "BuildResult", "build"]
