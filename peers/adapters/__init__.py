"""One adapter for each library, by its public functions alone."""
