"""Why a model has no right answer here: an error for each reason, with the way out."""
