#!/usr/bin/env bash
# Train on several GPUs (or CPU processes) of one or more nodes.
# Usage: tools/dist_train.sh CONFIG NUM_PROCESSES [train.py arguments]
# Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT for several nodes; MAX_RESTARTS (0) and RUN_ID, see docs/clusters.md; PYTHON.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
CONFIG=$1; PROCESSES=$2; shift 2
NNODES=${NNODES:-1}
MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
if [ "$NNODES" = 1 ]; then
    RUN_ID=${RUN_ID:-$(uname -n)-$$-$(date +%s)}
elif [ "${MAX_RESTARTS:-0}" != 0 ] && [ -z "${RUN_ID:-}" ]; then
    echo "error: \`MAX_RESTARTS\` on several nodes needs \`RUN_ID\`, a name of this launch, the same on every node and new each time." >&2
    exit 2
fi
IS_HOST=0
if [ "${NODE_RANK:-0}" = 0 ]; then IS_HOST=1; fi
# The name of a machine need not resolve for the machine itself.
LOCAL=()
if [ "$MASTER_ADDR" = 127.0.0.1 ]; then LOCAL=(--local-addr=127.0.0.1); fi
exec "${PYTHON:-python}" "$(dirname "$0")/launch.py" \
    --nnodes="$NNODES" --nproc-per-node="$PROCESSES" --max-restarts="${MAX_RESTARTS:-0}" "${LOCAL[@]}" \
    --rdzv-backend=c10d --rdzv-endpoint="$MASTER_ADDR:${PORT:-29500}" --rdzv-id="${RUN_ID:-none}" --rdzv-conf="is_host=$IS_HOST" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "$@"
