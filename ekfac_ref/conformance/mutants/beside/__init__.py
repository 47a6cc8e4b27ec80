"""Mistakes beside an EKFAC that is right: in KFAC and F, in manners."""
