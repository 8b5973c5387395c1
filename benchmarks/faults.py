"""What can go wrong while twc runs, and what becomes of the files: nothing is ever lost or half-written.

    python benchmarks/faults.py [WORDS]      all faults, or those with WORDS in their names; writes results/faults.json
    python benchmarks/faults.py bomb         only files of 200 bytes that claim gigabytes

Every try is a run of the command line in a folder of its own. An output must be the old one, byte for byte, or the
whole new one; the exit code one that is documented; no traceback may be said, and no temporary file be left, but by
SIGKILL, and then the same command works all the same.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import fault_bombs
from fault_cases import CASES, SIGNALS, Case
from fault_place import Good, Outcome

RESULT = Path(__file__).parent / "results" / "faults.json"
AT_ONCE = 2


def tried(case: Case, good: Good, number: int) -> Outcome:
    """A try that breaks this program is a finding, too."""
    try:
        return case(good, number)
    except Exception as error:
        return Outcome(wrong=[f"the try failed: {type(error).__name__}: {error}"])


def row(outcomes: list[Outcome]) -> dict[str, Any]:
    codes = Counter(str(code) for one in outcomes for code in one.codes)
    return {
        "tries": len(outcomes),
        "files lost or half-written": sum(len(one.lost) for one in outcomes),
        "temporary files left": sum(one.left for one in outcomes),
        "before twc began": sum(one.early for one in outcomes),
        "other findings": sum(len(one.wrong) for one in outcomes),
        "exit codes": dict(sorted(codes.items())),
        "findings": [text for one in outcomes for text in [*one.lost, *one.wrong]][:10],
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    columns = ("tries", "files lost or half-written", "temporary files left", "other findings")
    lines = [f"| fault | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for name, found in rows.items():
        lines.append(f"| {name} | {' | '.join(str(found[column]) for column in columns)} |")
    sums = [str(sum(found[column] for found in rows.values())) for column in columns]
    return "\n".join([*lines, f"| all | {' | '.join(sums)} |"])


def all_faults(words: str) -> dict[str, dict[str, Any]]:
    rows = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        good = Good(Path(folder))
        for name, (case, tries) in CASES.items():
            if words in name:
                start = time.monotonic()
                rows[name] = row(list(pool.map(lambda i, case=case: tried(case, good, i), range(tries))))
                print(f"{name}: {rows[name]} ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)
    return rows


def keep(result: dict[str, Any]) -> None:
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    for number in SIGNALS[:3]:  # ignored in the background of a shell and under nohup, and twc would keep to that
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    words = " ".join(sys.argv[1:])
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if words != "bomb":
        rows = all_faults(words)
        print(table(rows))
        result |= {"faults": {**(result.get("faults", {}) if words else {}), **rows}}
        keep(result)
    if words in ("", "bomb"):
        result["bombs"] = fault_bombs.measured()
        print(fault_bombs.table(result["bombs"]))
    result |= {"date": time.strftime("%Y-%m-%d"), "command": "python benchmarks/faults.py"}
    keep(result)


if __name__ == "__main__":
    main()
