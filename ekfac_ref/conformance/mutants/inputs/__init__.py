"""Mistakes in which samples, positions and inputs a layer is taken to have seen."""
