"""TensorRT and TensorRT-RTX through one code path: build, inspect, run. Python >= 3.8, standard library and numpy."""
