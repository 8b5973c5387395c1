"""Pictures to look at: where the default model does worst beside AVIF, and beside the first weights.

    python benchmarks/pictures.py docs/images/worst.webp [-q 2]

For each picture that ships with scikit-image: the original, `default-1`, `default` at -q, and Pillow's AVIF at the
quality whose file comes closest to that of `default`; all of them on the square of 128 pixels on which `default` loses
most to AVIF, or wins least. The table beneath is printed: bits a pixel and PSNR of the whole picture and of the square.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw

import twcodec
from twcodec.codec import distortion

PICTURES = ("astronaut", "chelsea", "coffee", "rocket", "page")
SQUARE, SCALE, MARGIN, TITLE = 128, 2, 6, 16


def pixels(name: str) -> np.ndarray:
    image = getattr(skimage.data, name)()
    return np.ascontiguousarray(np.stack([image] * 3, 2) if image.ndim == 2 else image[..., :3])


def coded(codec, image: np.ndarray, quality: float) -> tuple[int, np.ndarray]:
    data = codec.encode(Image.fromarray(image), quality, transform="never")
    return len(data), np.asarray(codec.decode(data))


def avif_like(image: np.ndarray, size: int) -> tuple[int, np.ndarray]:
    """The AVIF whose size is closest."""
    files = []
    for quality in range(1, 95, 2):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "AVIF", quality=quality)
        files.append(file.getvalue())
    best = min(files, key=lambda data: abs(len(data) - size))
    return len(best), np.asarray(Image.open(io.BytesIO(best)).convert("RGB"))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return distortion.psnr(float(np.mean((a.astype(float) - b) ** 2)) / 255**2)


def worst(image: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> tuple[slice, slice]:
    """The square with the largest loss, in dB, among those that stand every 32 pixels."""
    squares = [
        (slice(top, top + SQUARE), slice(left, left + SQUARE))
        for top in range(0, image.shape[0] - SQUARE + 1, 32)
        for left in range(0, image.shape[1] - SQUARE + 1, 32)
    ]
    return max(squares, key=lambda at: psnr(image[at], theirs[at]) - psnr(image[at], ours[at]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("-q", "--quality", type=float, default=2.0)
    arguments = parser.parse_args()
    codecs = {name: twcodec.open_codec(name) for name in ("default-1", "default")}
    side = SQUARE * SCALE
    sheet = Image.new("RGB", (4 * (side + MARGIN), len(PICTURES) * (side + TITLE + MARGIN)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(PICTURES):
        image = pixels(name)
        made = {key: coded(codec, image, arguments.quality) for key, codec in codecs.items()}
        made["AVIF"] = avif_like(image, made["default"][0])
        at = worst(image, made["default"][1], made["AVIF"][1])
        top = row * (side + TITLE + MARGIN)
        for column, (title, (size, back)) in enumerate({name: (0, image), **made}.items()):
            bpp = 8 * size / image[..., 0].size
            tile = Image.fromarray(np.ascontiguousarray(back[at])).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(tile, (column * (side + MARGIN), top + TITLE))
            text = f"{title}  {bpp:.3f} bpp  {psnr(image[at], back[at]):.1f} dB" if size else title
            draw.text((column * (side + MARGIN) + 2, top + 2), text, fill="black")
            if size:
                whole, part = psnr(image, back), psnr(image[at], back[at])
                print(f"| {name} | {title} | {bpp:.3f} | {whole:.2f} | {part:.2f} |")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.output, quality=90, method=6)


if __name__ == "__main__":
    main()
