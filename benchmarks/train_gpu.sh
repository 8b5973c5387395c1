#!/usr/bin/env bash
# Train the embedded default further on one GPU: 25 minutes on an H100 or H200 with everything; no network needed.
#
#   bash benchmarks/train_gpu.sh                                     in the repository's root, on the GPU machine
#   LIMIT=540 bash benchmarks/train_gpu.sh                           where a command may take ten minutes: call it again
#                                                                    until it prints the Kodak table; it goes on each time
#   DEVICE=cpu MINUTES=1 BATCH=2 PATCH=128 bash benchmarks/train_gpu.sh    a rehearsal without a GPU
#
# Needs torch with CUDA, and ../shared or TWC_SHARED with the training and Kodak pictures. Packages that the machine
# lacks (compressai, constriction, construct, ...) are installed from the wheels in .whl, if that folder is there.
# What it leaves lies in $OUT (default: run-gpu), each file under 16 MiB: every three minutes snapshot.safetensors, at
# the end model.safetensors and entry.json, for `python -m twcodec.training.adopt`, and rd-kodak.json. The checkpoint
# (120 MB) stays in $WORK.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=$(realpath -m "${OUT:-run-gpu}") WORK=$(realpath -m "${WORK:-/tmp/twc-train-gpu}")
PYTHON=${PYTHON:-python3} LIMIT=${LIMIT:-0}
SHARED=${TWC_SHARED:-../shared}
[ -d "$SHARED/data/train" ] || SHARED=shared
export TWC_SHARED=$SHARED
mkdir -p "$OUT" "$WORK"
if [ -d .whl ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --upgrade --target "$WORK/site" .whl/*.whl
    export PYTHONPATH="$WORK/site${PYTHONPATH:+:$PYTHONPATH}"
fi
"$PYTHON" -c 'import torch; print(torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")'

keep() { for f in "$WORK"/*.safetensors "$WORK"/*.json "$WORK"/*.jsonl "$WORK"/*.png; do
    if [ -e "$f" ]; then cp "$f" "$OUT/"; fi
done; }
(while sleep 5; do [ $((SECONDS % 180)) -lt 5 ] && keep; done) > /dev/null 2>&1 & copier=$!
trap 'kill $copier 2>/dev/null || true; keep' EXIT

# Larger batches than on a CPU, and larger crops as far as the photographs leave room to choose them from. The training
# is bounded by its minutes; finishing and Kodak take about 4 more.
if [ ! -e "$WORK/entry.json" ]; then
    status=0
    timeout --foreground --signal=INT "$LIMIT" "$PYTHON" -m twcodec train "$SHARED/data/train" -o "$WORK" --init "${INIT:-default}" \
        --minutes "${MINUTES:-20}" --batch "${BATCH:-24}" --patch "${PATCH:-320}" --lr "${LR:-6e-4}" \
        --device "${DEVICE:-cuda}" --save-every 3 --evaluate-every 6 || status=$?
    if [ $status = 124 ] || [ $status = 130 ]; then
        echo "stopped by LIMIT; call it again to go on"
        exit 0
    fi
    [ $status = 0 ] || exit $status
fi
"$PYTHON" benchmarks/rd.py --output "$OUT/rd-kodak.json" default "$WORK/model.safetensors"
