"""Laws of an optimizer over several updates, and what a step is held against."""
