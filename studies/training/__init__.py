"""Real training on scikit-learn's digits: SGD with momentum, Adam, KFAC and EKFAC, equally tuned.

Run it with ``python -m studies.training``; it needs ``pip install 'ekfac-ref[demo]'``, no download,
and less than ten minutes on two cores.
"""
