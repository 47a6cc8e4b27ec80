"""Mistakes in the columns S_n: whose labels, which distribution, which loss."""
