"""Precision in the graph: one plan of what every node computes in, written as casts and Q/DQ for a runtime."""

from export.precision.fp16 import plan_fp16
from export.precision.int8 import Int8Plan, plan_int8
from export.precision.make import Made, make_precision
from export.precision.plan import Decision, PrecisionPlan
from export.precision.write import write

__all__ = ["Decision", "Int8Plan", "Made", "PrecisionPlan", "make_precision", "plan_fp16", "plan_int8", "write"]
