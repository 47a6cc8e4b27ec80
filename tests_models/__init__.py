"""Architectures of other people, from small configs with random weights: ``make models``."""
