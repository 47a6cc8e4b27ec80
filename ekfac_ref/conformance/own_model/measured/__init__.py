"""What is right for layers of any size, by passes over the data, and how far rounding goes."""
