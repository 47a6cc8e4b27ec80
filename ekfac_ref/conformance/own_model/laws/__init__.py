"""The laws for layers of any size: by products with a few vectors, and by what answers show."""
