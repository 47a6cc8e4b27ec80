"""How strong the laws are: every mutant against every law."""
