"""A second writing of everything the reference computes, by plain loops, that imports none of it.

No torch.func but in ``hessians.py``, no hooks shared with the reference, no unfold: autograd one
sample at a time, layer inputs by index loops, matrices by explicit sums, and one network
differentiated by hand in numpy.
"""
