"""Problems to ask about: drawn by a seed, put otherwise, or written out as Python."""
