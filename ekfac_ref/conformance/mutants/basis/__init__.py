"""Mistakes in A, B and their eigenvectors."""
