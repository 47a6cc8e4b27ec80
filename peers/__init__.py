"""Released libraries on trial: adapters, a board, and scripts that show what was found."""
