"""Invertible transforms of the input, and the rule that turns a seed into their parameters. No torch at import."""

from twcodec.transforms.registry import (
    BY_NAME,
    IDENTITY,
    Draw,
    Transform,
    by_id,
    by_name,
    default_set,
)

__all__ = ["BY_NAME", "IDENTITY", "Draw", "Transform", "by_id", "by_name", "default_set"]
