"""What is asked: a model, its data, a likelihood, a Fisher, a way to share positions."""
