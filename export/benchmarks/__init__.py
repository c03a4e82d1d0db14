"""Measurements behind decisions of the compiler."""
