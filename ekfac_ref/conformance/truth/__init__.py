"""What is right: what each layer saw, the definitions applied to it, how far rounding may go."""
