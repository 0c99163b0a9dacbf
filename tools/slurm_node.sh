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

# Copies the packed splits of the folder $1 to the folder $2 and links all else; what was copied from the same packing stays.
stage() {
    local split copy entry
    compgen -G "$1/*/packed/index.json" > /dev/null || { echo "'$1' has no packed split: run pack_dataset.py." >&2; return 1; }
    mkdir -p "$2" || return
    for split in "$1"/*; do
        if [ ! -f "$split/packed/index.json" ]; then ln -sfn "$split" "$2/" || return; continue; fi
        copy=$2/${split##*/}
        mkdir -p "$copy" || return
        for entry in "$split"/*; do
            if [ "$entry" != "$split/packed" ]; then ln -sfn "$entry" "$copy/" || return; fi
        done
        if ! cmp -s "$split/packed/index.json" "$copy/packed/index.json"; then
            rm -rf "$copy/packed" "$copy/.packed"
            cp -r "$split/packed" "$copy/.packed" && mv "$copy/.packed" "$copy/packed" || return
        fi
    done
}

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
    DATA_ROOT=$(cd "$DATA_ROOT" && pwd)
    STAGED=$STAGE_DIR/mtl_${DATA_ROOT##*/}_$(printf %s "$DATA_ROOT" | cksum | cut -d' ' -f1)
    # One process of a node copies, and the others wait.
    if mkdir -p "$STAGE_DIR" && (flock 9 && stage "$DATA_ROOT" "$STAGED") 9> "$STAGED.lock"; then
        set -- "$@" --data-root "$STAGED"
    else
        echo "Nothing was copied to this node: training from $DATA_ROOT." >&2
    fi
fi
export NNODES=$SLURM_JOB_NUM_NODES NODE_RANK=$SLURM_NODEID RUN_ID=$SLURM_JOB_ID MAX_RESTARTS=${MAX_RESTARTS:-3}
exec "$TOOLS/dist_train.sh" "$CONFIG" "$GPUS_PER_NODE" "$@"
