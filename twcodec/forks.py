"""What a process that was forked must do first: of the one that forked it only the calling thread is there."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_child(action: Callable[[], object]) -> None:
    """Call `action` in every process that is forked from now on, before it does anything else."""
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=action)
