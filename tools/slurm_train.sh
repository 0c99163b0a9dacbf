#!/usr/bin/env bash
# Train in a SLURM batch job that saves its state before its time is up, goes back into the queue and continues there.
# Usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [train.py arguments]
# Environment: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), NOTICE (300 s), MAX_RESTARTS (3), STAGE_DIR, SBATCH_ARGS; PYTHON.
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
PARTITION=$1; JOB_NAME=$2; shift 2
GPUS=${GPUS:-8}
export GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
export NOTICE=${NOTICE:-300}
if ((GPUS % GPUS_PER_NODE)); then
    echo "error: \`GPUS\` should be a multiple of \`GPUS_PER_NODE\`, $GPUS_PER_NODE. Found $GPUS." >&2
    exit 2
fi
MTL_TOOLS=$(cd "$(dirname "$0")" && pwd)
export MTL_TOOLS
# SBATCH_ARGS is split into words on purpose.
# shellcheck disable=SC2086
exec sbatch -p "$PARTITION" --job-name="$JOB_NAME" --nodes="$((GPUS / GPUS_PER_NODE))" --ntasks-per-node=1 \
    --gres="gpu:$GPUS_PER_NODE" --cpus-per-task="$((${CPUS_PER_TASK:-5} * GPUS_PER_NODE))" \
    --requeue --open-mode=append --signal="B:USR1@$NOTICE" ${SBATCH_ARGS:-} "$MTL_TOOLS/slurm_job.sh" "$@"
