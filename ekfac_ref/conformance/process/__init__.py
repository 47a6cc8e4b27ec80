"""A subject in a process of its own, which it may end, hang or spoil without spoiling the run."""
