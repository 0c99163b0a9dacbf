#!/usr/bin/env bash
# The batch script of tools/slurm_train.sh: one launcher per node, and the job back into the queue when it was interrupted.
# Usage: sbatch --requeue --signal=B:USR1@300 --ntasks-per-node=1 [...] tools/slurm_job.sh CONFIG [train.py arguments]
# Environment: GPUS_PER_NODE, NOTICE (300 s, as in --signal), MTL_TOOLS (tools), PORT, MAX_RESTARTS (3), STAGE_DIR; PYTHON.
set -euo pipefail
if [ $# -lt 1 ] || [ -z "${SLURM_JOB_ID:-}" ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
# sbatch runs a copy of this script, elsewhere.
export MTL_TOOLS=${MTL_TOOLS:-$SLURM_SUBMIT_DIR/tools}
export PORT=${PORT:-$((20000 + SLURM_JOB_ID % 20000))}
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR
NOTICE=${NOTICE:-300}

requeue() {
    # A job that was cancelled, whose processes get SIGTERM as well, stays cancelled.
    case $(scontrol show job "$SLURM_JOB_ID") in
        *JobState=RUNNING*) echo "Interrupted: back into the queue." ;;
        *) return ;;
    esac
    scontrol requeue "$SLURM_JOB_ID" || echo "error: SLURM did not requeue the job. Submit it again with --resume." >&2
}

step=
signalled=0
watchdog=
# Called by the trap.
# shellcheck disable=SC2317
interrupt() {
    if [ "$signalled" = 1 ]; then return; fi
    signalled=1
    kill -USR1 "$step" 2>/dev/null || true
    # A training that cannot stop in time, as in a long validation, goes on from its last checkpoint.
    (
        trap 'kill "$pause"' TERM
        sleep $((NOTICE - NOTICE / 5)) &
        pause=$!
        wait "$pause" && requeue
    ) &
    watchdog=$!
}
trap interrupt USR1 TERM

# A step does not get the CPUs of its job by itself. The launchers of all nodes end together, or are ended.
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 --wait=120 \
    "$MTL_TOOLS/slurm_node.sh" "$@" &
step=$!
# A trap ends `wait` early.
while kill -0 "$step" 2>/dev/null; do wait "$step" || true; done
code=0
wait "$step" || code=$?
if [ -n "$watchdog" ]; then kill "$watchdog" 2>/dev/null || true; fi
if [ "$code" = 75 ] || { [ "$signalled" = 1 ] && [ "$code" != 0 ]; }; then requeue; fi
exit "$code"
