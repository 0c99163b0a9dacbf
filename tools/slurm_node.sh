#!/usr/bin/env bash
# What tools/slurm_job.sh starts on each node: packed data to the disk of the node, then the processes of the node.
# Usage: srun --ntasks-per-node=1 tools/slurm_node.sh CONFIG [train.py arguments]
# Environment: GPUS_PER_NODE, MASTER_ADDR, PORT, MAX_RESTARTS (3), STAGE_DIR (SLURM_TMPDIR or TMPDIR; empty: no copy); PYTHON.
set -euo pipefail
if [ $# -lt 1 ] || [ -z "${SLURM_JOB_ID:-}" ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
CONFIG=$1; shift
TOOLS=$(dirname "$0")
DATA_ROOT=${MTL_DATA_ROOT:-}
previous=
for argument in "$@"; do
    case $argument in --data-root=*) DATA_ROOT=${argument#*=} ;; esac
    if [ "$previous" = --data-root ]; then DATA_ROOT=$argument; fi
    previous=$argument
done
STAGE_DIR=${STAGE_DIR-${SLURM_TMPDIR:-${TMPDIR:-}}}
if [ -n "$STAGE_DIR" ] && [ -n "$DATA_ROOT" ]; then
    if STAGED=$("${PYTHON:-python}" "$TOOLS/dataset_tools/stage_dataset.py" "$DATA_ROOT" "$STAGE_DIR"); then
        set -- "$@" --data-root "$STAGED"
    else
        echo "Nothing was copied to this node: training from $DATA_ROOT." >&2
    fi
fi
export NNODES=$SLURM_JOB_NUM_NODES NODE_RANK=$SLURM_NODEID RUN_ID=$SLURM_JOB_ID MAX_RESTARTS=${MAX_RESTARTS:-3}
exec "$TOOLS/dist_train.sh" "$CONFIG" "$GPUS_PER_NODE" "$@"
