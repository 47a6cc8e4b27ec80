"""``python -m ekfac_ref``: the command, where it is not on the path."""

import sys

from ekfac_ref.cli import main

sys.exit(main())
