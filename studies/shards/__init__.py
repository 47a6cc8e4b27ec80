"""Three processes against one, on drawn problems whose batches they share out."""
