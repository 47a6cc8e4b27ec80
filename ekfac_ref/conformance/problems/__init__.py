"""Problems to ask about: drawn by Hypothesis, put otherwise, or written out as Python."""
