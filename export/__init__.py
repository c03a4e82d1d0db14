"""COMPILE: checkpoint in, ONNX and engines out."""
