#!/usr/bin/env bash
# Evaluate or predict on several GPUs (or CPU processes) of one or more nodes.
# Usage: tools/dist_test.sh [CONFIG] CHECKPOINT NUM_PROCESSES [test.py arguments]
# Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT for several nodes; PYTHON chooses the interpreter.
set -euo pipefail
# The first number is that of the processes; before it come a checkpoint or a model of the zoo, or a config and a checkpoint.
MODEL=()
while [ $# -gt 0 ] && [[ ! $1 =~ ^[0-9]+$ ]]; do MODEL+=("$1"); shift; done
if [ $# -eq 0 ] || [ ${#MODEL[@]} -eq 0 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
PROCESSES=$1; shift
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" --nproc_per_node="$PROCESSES" \
    "$(dirname "$0")/test.py" "${MODEL[@]}" --launcher pytorch "$@"
