"""`python -m limner` is `limner`."""

from __future__ import annotations

import sys

from limner.cli import main

sys.exit(main())
