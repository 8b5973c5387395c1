"""`make demo`: encode a real photograph with the embedded model, decode it, and say what came of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image


def twc(*arguments: str | Path) -> None:
    command = [str(Path(sys.executable).with_name("twc")), *map(str, arguments)]
    print("$ twc", *arguments, flush=True)
    subprocess.run(command, check=True)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="twc-demo-"))
    photo, file, back = folder / "astronaut.png", folder / "astronaut.twc", folder / "back.png"
    Image.fromarray(skimage.data.astronaut()).save(photo)
    twc("encode", "-v", photo, file)
    twc("info", file)
    twc("verify", file)
    twc("decode", file, back)
    a, b = (np.asarray(Image.open(p)).astype(float) for p in (photo, back))
    psnr = 10 * np.log10(255**2 / np.mean((a - b) ** 2))
    jpeg = folder / "astronaut.jpg"
    for quality in range(95, 4, -1):  # the best JPEG that is no larger
        Image.fromarray(a.astype(np.uint8)).save(jpeg, quality=quality, optimize=True)
        if jpeg.stat().st_size <= file.stat().st_size:
            break
    j = np.asarray(Image.open(jpeg)).astype(float)
    size, raw = file.stat().st_size, photo.stat().st_size
    theirs = 10 * np.log10(255**2 / np.mean((a - j) ** 2))
    bpp = 8 * size / a[..., 0].size
    print(f"\n{photo.name}: {a.shape[1]}x{a.shape[0]}, {raw} bytes as PNG, {size} bytes as TWC ({bpp:.3f} bpp)")
    print(f"PSNR after decoding: {psnr:.2f} dB; a JPEG of the same size: {theirs:.2f} dB")
    print(f"files are in {folder}")


if __name__ == "__main__":
    main()
