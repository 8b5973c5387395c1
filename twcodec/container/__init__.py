"""Bytes <-> header and chunks. Knows neither pictures nor models; imports neither torch nor numpy."""

from twcodec.container.file import Container
from twcodec.container.header import Header
from twcodec.container.limits import DEFAULT_LIMITS, Limits

__all__ = ["DEFAULT_LIMITS", "Container", "Header", "Limits"]
