"""Known mistakes in a transformer and in a small ResNet: which of them are noticed?"""
