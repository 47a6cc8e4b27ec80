"""What a forward does with the weights of layers, seen without hooks."""
