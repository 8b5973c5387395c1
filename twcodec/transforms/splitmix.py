"""SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the generator behind every transform's parameters.

The format names this generator, never a library's, so that a file's transform can be recomputed for ever.
"""

from __future__ import annotations

_MASK = (1 << 64) - 1


class SplitMix64:
    """A stream of 64-bit integers from a 64-bit state."""

    def __init__(self, state: int) -> None:
        self._state = state & _MASK

    def next(self) -> int:
        """The next integer, 0 <= n < 2^64."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, n: int) -> int:
        """An integer 0 <= k < n, for n < 2^32: the high 32 bits of the next integer, scaled."""
        return ((self.next() >> 32) * n) >> 32
