"""What is linear in its weight: which ops, how a weight is a matrix, and what it multiplies."""
