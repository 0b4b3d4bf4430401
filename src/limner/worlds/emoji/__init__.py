"""The emoji world: real pictures with real names; two small judges that were trained on disjoint halves of them."""

from __future__ import annotations
