"""Print the SHA-256 of the symbols in TWC files, one a line, as the manifest has it: for run.py --symbols."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import twcodec

codec = twcodec.open_codec(device="cpu")
for name in sys.argv[1:]:
    symbols = codec.decode_symbols(Path(name).read_bytes())
    coded = b"".join(part.cpu().numpy().astype(">i2").tobytes() for part in (symbols.z, symbols.y))
    print(hashlib.sha256(coded).hexdigest())
