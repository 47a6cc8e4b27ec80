"""TOML as data, by what Python has from 3.11 on, and before by what that was made from."""

import sys

if sys.version_info >= (3, 11):
    from tomllib import loads
else:
    from tomli import loads

__all__ = ["loads"]
