"""Copies of the caller's model, which is never computed with itself."""
