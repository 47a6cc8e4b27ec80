"""The demo: two small networks whose layers are measured, and the notebook this project began as.

Run it with ``python -m studies.demo``; it needs ``pip install 'ekfac-ref[demo]'``, no download,
and less than a minute.
"""
