"""``sbatch``, ``srun`` and ``scontrol`` on PATH, as far as the scripts use them: one machine stands for all nodes."""

import os
from pathlib import Path

# Runs a copy of the batch script, as often as the job is requeued.
_SBATCH = """#!/usr/bin/env bash
echo "sbatch $*" >> "$FAKE_SLURM/calls"
nodes=1
while [ ! -f "$1" ]; do
    case $1 in --nodes=*) nodes=${1#*=} ;; esac
    shift
done
cp "$1" "$FAKE_SLURM/slurm_script"
shift
export SLURM_JOB_ID=7 SLURM_JOB_NODELIST="node[1-$nodes]" SLURM_JOB_NUM_NODES=$nodes SLURM_CPUS_PER_TASK=2
export SLURM_RESTART_COUNT=0
while :; do
    rm -f "$FAKE_SLURM/requeued"
    bash "$FAKE_SLURM/slurm_script" "$@" &
    echo $! > "$FAKE_SLURM/batch_pid.new" && mv "$FAKE_SLURM/batch_pid.new" "$FAKE_SLURM/batch_pid"
    code=0
    wait $! || code=$?
    [ -f "$FAKE_SLURM/requeued" ] || exit $code
    SLURM_RESTART_COUNT=$((SLURM_RESTART_COUNT + 1))
done
"""

# One task a node; passes SIGUSR1 on to them, and ends with the highest status.
_SRUN = """#!/usr/bin/env bash
echo "srun $*" >> "$FAKE_SLURM/calls"
while [[ $1 == -* ]]; do shift; done
tasks=()
trap 'kill -USR1 "${tasks[@]}"' USR1
for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do
    SLURM_NODEID=$node "$@" &
    tasks+=($!)
done
highest=0
for task in "${tasks[@]}"; do
    while kill -0 "$task" 2>/dev/null; do wait "$task"; done
    wait "$task"
    code=$?
    if ((code > highest)); then highest=$code; fi
done
exit $highest
"""

_SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >> "$FAKE_SLURM/calls"
case $1-$2 in
    show-hostnames) echo 127.0.0.1 ;;
    show-job) echo "JobId=$3 JobState=${FAKE_JOB_STATE:-RUNNING}" ;;
    requeue-7) touch "$FAKE_SLURM/requeued" ;;
esac
"""


def write_fake_slurm(folder: Path) -> dict[str, str]:
    """Write the commands into ``folder``; the variables that a process needs to find them. ``folder/calls`` lists the calls."""
    folder.mkdir()
    for name, script in (('sbatch', _SBATCH), ('srun', _SRUN), ('scontrol', _SCONTROL)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return {**os.environ, 'FAKE_SLURM': str(folder), 'PATH': f'{folder}{os.pathsep}{os.environ["PATH"]}'}
