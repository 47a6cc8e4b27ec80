"""Tensors in, a matrix out; no model in sight."""
