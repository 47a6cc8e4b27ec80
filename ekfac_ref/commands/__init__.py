"""The commands of ``ekfac-ref``, one file each; ``cli.py`` has their arguments."""
