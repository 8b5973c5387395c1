"""Coverage-guided fuzzing with atheris: `make fuzz MINUTES=n`, or for one target

    python tests/fuzz/fuzz_run.py TARGET [--minutes N] [--runs N]

Inputs that reach new code are kept in .fuzz/TARGET, and a run goes on from there; the small ones that are worth keeping
are in tests/fuzz/corpus. Appends what was run to .fuzz/log.jsonl. Exit code 77 (libFuzzer's) and a file
.fuzz/TARGET-crash-...: a finding.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
WORK = HERE.parents[1] / ".fuzz"
VECTORS = [HERE.parents[1] / "formats" / "vectors" / name for name in ("valid", "malformed")]
NAMES = ("container", "container-repaired", "range-decoder", "decode", "transforms", "model-file", "imaging")
CHILD = "--child"
MOST_BYTES = {"imaging": 4096, "model-file": 4096, "decode": 4096}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--runs", type=int, default=-1)
    given = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    options = [
        f"-max_total_time={max(1, int(60 * given.minutes))}",
        f"-runs={given.runs}",
        f"-max_len={MOST_BYTES.get(given.target, 2048)}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        f"-artifact_prefix={WORK}/{given.target}-",
    ]
    command = [sys.executable, __file__, CHILD, given.target, *options]
    start, runs = time.time(), 0
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
            if found := re.match(r"stat::number_of_executed_units: *(\d+)|#(\d+)\t", line):
                runs = int(found[1] or found[2])
    seconds = round(time.time() - start)
    line = {"date": time.strftime("%F"), "target": given.target, "runs": runs, "seconds": seconds}
    with (WORK / "log.jsonl").open("a") as file:
        file.write(json.dumps({**line, "code": process.returncode}) + "\n")
    sys.exit(process.returncode)


def child(name: str, options: list[str]) -> None:
    """The process that libFuzzer ends."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not here; it has wheels for Linux and macOS: pip install atheris")
    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=["twcodec", "fuzz_targets"]):
        import fuzz_targets
    kept = WORK / name
    kept.mkdir(parents=True, exist_ok=True)
    seeds = [HERE / "corpus" / name, *VECTORS * (name in ("container", "container-repaired", "decode"))]
    folders = [str(kept), *(str(folder) for folder in seeds if folder.exists())]
    atheris.Setup([sys.argv[0], *options, *folders], fuzz_targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        child(sys.argv[2], sys.argv[3:])
    else:
        main()
