"""Trial on a problem of the user's own, whose layers are too large for P x P matrices."""
