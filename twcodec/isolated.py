"""Commands for processes of twc's own that import nothing from the folder that happens to be the current one."""

from __future__ import annotations

import sys


def command(module: str) -> list[str]:
    """Runs `main()` of a module of twc's in another process.

    `python -m` would put the current folder in front of all others, and a random.py in it, downloaded with a set of
    pictures, would be run; `-P` is not known to Python 3.10.
    """
    return [sys.executable, "-c", f"import sys; sys.path.remove(''); from {module} import main; main()"]
