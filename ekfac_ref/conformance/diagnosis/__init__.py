"""Which mistake it is, and which could hide."""
