"""Whether verdicts depend on how a machine rounds: the suite and correct subjects, in many ways."""
