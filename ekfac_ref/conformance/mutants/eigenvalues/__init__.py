"""Mistakes in Lambda: in what is squared, in its numbers, their order and their scale."""
