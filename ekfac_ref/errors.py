"""The one exception of this package: what is wrong, where, and what to do about it."""


class ProblemError(ValueError):
    """A problem that has no right answer here; the message names the culprit and the way out."""
