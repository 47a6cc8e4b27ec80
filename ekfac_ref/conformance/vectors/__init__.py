"""Test vectors: bare a and g in files, with the answers, for whoever has no Python to call."""
