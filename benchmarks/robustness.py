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


def clean(results: dict[str, Any], qualities: list[float]) -> None:
    """Loss beside that without a defence, for each quality."""
    found = {(row["quality"], row["defence"]): row for row in results["clean"]}
    print("\n| defence | " + " | ".join(f"loss, -q {q:g}" for q in qualities) + " | encode, ms |")
    print("|---" * (len(qualities) + 2) + "|")
    for name in (defence["name"] for defence in results["defences"]):
        losses = " | ".join(f"{found[q, name]['loss_ratio']['mean']:.4f}" for q in qualities)
        print(f"| {name} | {losses} | {found[qualities[-1], name]['encode_ms']:.0f} |")


def attacked(results: dict[str, Any], quality: float) -> None:
    """A row for each attack: the undefended codec's damage, and what every defence leaves of the loss."""
    removed = {tuple(row[name] for name in CELL): row["share"] for row in results["removed"]}
    names = [defence["name"] for defence in results["defences"]]
    rows = {tuple(row[n] for n in CELL): row for row in results["attacked"] if row["quality"] == quality}
    first, others = names[0], names[1:]
    print(f"\n`-q {quality:g}`:\n")
    print("| eps | objective | threat | none: loss | worst | bits | dB | " + " | ".join(others) + " |")
    print("|---" * (7 + len(others)) + "|")
    order = dict.fromkeys((key[4], key[2], key[3]) for key in rows)
    for eps, objective, threat in sorted(order, key=lambda cell: cell[0]):
        found = {key[5]: (row, removed.get(key)) for key, row in rows.items() if key[2:5] == (objective, threat, eps)}
        if first not in found:
            continue
        plain = found[first][0]
        loss = plain["loss_ratio"]
        cells = [
            f"{eps:g}",
            objective or "(noise)",
            threat if objective else "",
            f"{loss['mean']:.3f} ({loss['low']:.3f}-{loss['high']:.3f})",
            f"{plain['worst_loss_ratio']:.2f}",
            f"{plain['bpp_ratio']['mean']:.3f}",
            f"{plain['delta_psnr']['mean']:.2f}",
        ]
        for name in others:
            row, share = found.get(name, (None, None))
            part = "" if share is None else f" ({100 * share:.0f} %)"
            cells.append("" if row is None else f"{row['loss_ratio']['mean']:.3f}{part}")
        print("| " + " | ".join(cells) + " |")


def beside_avif(folder: Path) -> dict[str, dict[str, float]]:
    """Worst loss of a file over that of AVIF's of the very same picture, and how many are over twice it.

    Only pictures that were made for nobody's defence are the same for all; without a defence, that is all of them.
    """
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    names = ("quality", "attack", "objective", "threat", "eps", "picture")
    avif = {tuple(row[n] for n in names): row["loss"] for row in rows if row["defence"] == "AVIF"}
    found: dict[str, list[float]] = {}
    for row in rows:
        key = tuple(row[n] for n in names)
        if key in avif and (row["defence"] == "none" or row["threat"] not in ("white", "adaptive")):
            found.setdefault(row["defence"], []).append(row["loss"] / avif[key])
    return {
        name: {"files": len(ratios), "worst": round(max(ratios), 3), "over twice": sum(r > 2 for r in ratios)}
        for name, ratios in found.items()
    }


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
        beside = beside_avif(folder) if (folder / "rows.jsonl").exists() else {}
        for name, found in beside.items():
            print(f"\n{name}, over AVIF's of the same picture: {found}", file=sys.stderr)
        runs.append({"beside AVIF": beside} | {name: value for name, value in results.items() if name != "examples"})
    (HERE / "results" / "robustness.json").write_text(json.dumps({"runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
