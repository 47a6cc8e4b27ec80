"""Which weights a module has, and torch's attention taken apart into the layers that it has."""
