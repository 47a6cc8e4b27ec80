"""A model in, tensors out: a and g, or G, of every layer; no matrix in sight."""
