"""Programs that use the library and write a figure or a table of the docs; not installed."""
