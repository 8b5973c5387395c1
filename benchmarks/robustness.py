"""The tables of docs/robustness.md, from the folders that `twc evaluate` left.

python benchmarks/robustness.py REPORT...    prints Markdown; writes results/robustness.json, without the pictures
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CELL = ("model", "quality", "objective", "threat", "eps", "defence")
HEAD = "| objective | threat | defence | loss | worst | bits | dB | removed |\n|---|---|---|---|---|---|---|---|"


def clean(results: dict[str, Any], qualities: list[float]) -> None:
    """Loss beside that without a defence, for each quality."""
    found = {(row["quality"], row["defence"]): row for row in results["clean"]}
    print("\n| defence | " + " | ".join(f"loss, -q {q:g}" for q in qualities) + " | encode, ms |")
    print("|---" * (len(qualities) + 2) + "|")
    for name in (defence["name"] for defence in results["defences"]):
        losses = " | ".join(f"{found[q, name]['loss_ratio']['mean']:.4f}" for q in qualities)
        print(f"| {name} | {losses} | {found[qualities[-1], name]['encode_ms']:.0f} |")


def attacked(results: dict[str, Any], quality: float) -> None:
    """Every threat and defence; of the noise, the first two defences."""
    removed = {tuple(row[name] for name in CELL): row["share"] for row in results["removed"]}
    names = [defence["name"] for defence in results["defences"]]
    rows = [row for row in results["attacked"] if row["quality"] == quality]
    cells = dict.fromkeys((row["objective"], row["threat"]) for row in rows)
    print(f"\n`-q {quality:g}`:\n\n{HEAD}")
    for cell in cells:
        for row in sorted(
            (r for r in rows if (r["objective"], r["threat"]) == cell), key=lambda r: names.index(r["defence"])
        ):
            if not cell[0] and row["defence"] not in names[:2]:
                continue
            share, loss = removed.get(tuple(row[name] for name in CELL)), row["loss_ratio"]
            print(
                f"| {cell[0] or 'noise'} | {cell[1] if cell[0] else ''} | {row['defence']} "
                f"| {loss['mean']:.3f} ({loss['low']:.3f}-{loss['high']:.3f}) | {row['worst_loss_ratio']:.2f} "
                f"| {row['bpp_ratio']['mean']:.3f} | {row['delta_psnr']['mean']:.2f} "
                f"| {'' if share is None else f'{100 * share:.0f} %'} |"
            )


def main() -> None:
    runs = []
    for folder in map(Path, sys.argv[1:]):
        results = json.loads((folder / "results.json").read_text())
        qualities = results["models"][0]["qualities"]
        print(f"\n### {results['models'][0]['model']}, {results['attacked'][0]['pictures']} crops")
        clean(results, qualities)
        for quality in qualities:
            attacked(results, quality)
        held = [
            f"{c['name']}: {'holds' if c['holds'] else '**fails** (' + c['detail'] + ')'}" for c in results["sanity"]
        ]
        print("\nSanity checks: " + "; ".join(held) + ".")
        runs.append({name: value for name, value in results.items() if name != "examples"})
    (HERE / "results" / "robustness.json").write_text(json.dumps({"runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
