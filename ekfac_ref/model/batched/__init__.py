"""Whole batches through the model as it is, and whose the positions of its layers are."""
