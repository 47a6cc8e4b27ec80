"""The figures of the project, measured: speed against released libraries, memory and size."""
