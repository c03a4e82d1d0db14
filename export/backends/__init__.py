"""Engines behind one small interface: whether a runtime is here, build for it, load what was built. See base.py."""
