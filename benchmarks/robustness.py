"""The tables of docs/robustness.md, from what `twc evaluate` left.

python benchmarks/robustness.py REPORT [OUT.json]    prints Markdown; OUT.json: the figures without pictures
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def signed(row: dict[str, Any], name: str) -> str:
    value = row[name]
    return f"{value['mean']:.3f} ({value['low']:.3f}-{value['high']:.3f})"


def main() -> None:
    results = json.loads((Path(sys.argv[1]) / "results.json").read_text())
    attacked, clean = results["attacked"], results["clean"]
    print("| -q | defence | clean loss | encode, ms |\n|---|---|---|---|")
    for row in clean:
        ratio = f"{row['loss_ratio']['mean']:.4f}"
        print(f"| {row['quality']:g} | {row['defence']} | {ratio} | {row['encode_ms']:.0f} |")
    print()
    print("| -q | objective | threat | defence | loss ratio (95 %) | worst | bpp ratio | dPSNR | removed |")
    print("|---|---|---|---|---|---|---|---|---|")
    names = ("model", "quality", "objective", "threat", "eps", "defence")
    removed = {tuple(row[n] for n in names): row["share"] for row in results["removed"]}
    for row in attacked:
        share = removed.get(tuple(row[n] for n in names))
        threat = row["threat"] if row["objective"] else "noise"
        print(
            f"| {row['quality']:g} | {row['objective'] or '-'} | {threat} | {row['defence']} | "
            f"{signed(row, 'loss_ratio')} | {row['worst_loss_ratio']:.2f} | {row['bpp_ratio']['mean']:.3f} | "
            f"{row['delta_psnr']['mean']:.2f} | {'' if share is None else f'{100 * share:.0f} %'} |"
        )
    print()
    for check in results["sanity"]:
        print(f"- {check['name']}: {'holds' if check['holds'] else '**does not hold**'} ({check['detail']})")
    if len(sys.argv) > 2:
        kept = {name: value for name, value in results.items() if name != "examples"}
        Path(sys.argv[2]).write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
