"""Which weights a module has, how each is a matrix, and what it multiplies."""
