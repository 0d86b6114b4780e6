"""ONNX graphs: the bodies of the `rc` operators, conversion to a precision, and what a file says about itself."""
