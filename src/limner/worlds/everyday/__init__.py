"""Prompts for models of the open world, our own writing: common objects, and for clips things that move and signs.

There is no renderer and no checker; what a judge may check stands in `meta`, in the forms that judges here read.
"""

from __future__ import annotations
