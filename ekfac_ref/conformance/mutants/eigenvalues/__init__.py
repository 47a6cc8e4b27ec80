"""Mistakes in Lambda."""
