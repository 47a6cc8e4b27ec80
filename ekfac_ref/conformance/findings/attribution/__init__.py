"""From the features of problems with a fault to its causes."""
