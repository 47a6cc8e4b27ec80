"""What a run found, law by law and feature by feature, and what separates right from wrong."""
