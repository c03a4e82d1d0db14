"""TARGETS: what a target is, what it can do, and how to recognise it."""
