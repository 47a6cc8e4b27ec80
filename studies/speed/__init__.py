"""What an EKFAC costs: seconds, beside those of two released libraries, and memory."""
