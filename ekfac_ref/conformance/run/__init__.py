"""One run: problems, laws, verdicts, smaller problems, and what a pass is worth."""
