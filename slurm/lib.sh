# What the job scripts share; sourced by them inside a job. docs/cluster.md says what a user needs to know of it.
#
# Slurm runs a copy of a script from a folder of its own, so the repository is where sbatch was called, or MICROFICHE.
# PYTHON: the interpreter; by default the repository's .venv, else python3.

set -uo pipefail
export MICROFICHE=${MICROFICHE:-$SLURM_SUBMIT_DIR}
export PYTHONPATH=$MICROFICHE${PYTHONPATH:+:$PYTHONPATH}
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$MICROFICHE/.venv/bin/python
    [ -x "$PYTHON" ] || PYTHON=python3
fi
# Where sbatch was typed, another launcher may have left its own: ranks are Slurm's, and each start meets at a port of its own.
unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun does not take it from sbatch

# Signals are for the ranks: they save, and this shell must live to see it.
trap '' TERM USR1

say() {
    echo "$(date +%T) $SLURM_JOB_NAME $SLURM_JOB_ID: $*"
}

# option NAME DEFAULT OVERRIDES...: the value of the last NAME=VALUE, without the quotes around it.
option() {
    local name=$1 value=$2 argument
    shift 2
    for argument in "$@"; do
        case $argument in "$name="*) value=${argument#*=} ;; esac
    done
    value=${value#[\'\"]}
    echo "${value%[\'\"]}"
}

# Whether all nodes of the allocation still start a process.
nodes_answer() {
    timeout 20 srun --overlap --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task=1 true 2>/dev/null
}

# A lost node is not the run's fault, and Slurm takes minutes to notice one; then it takes the job elsewhere, and ends this shell.
wait_for_nodes() {
    nodes_answer && return
    say "not all of $SLURM_JOB_NODELIST answer; waits for them, or for Slurm to take the job elsewhere"
    trap - TERM
    for _ in $(seq 60); do
        sleep 5
        nodes_answer && break
    done
    trap '' TERM
}

requeue() {
    trap - TERM # which Slurm now sends to this shell
    scontrol requeue "$SLURM_JOB_ID" && exec sleep 600
    say "Slurm does not queue it again; the same command with the same name goes on from what is saved"
    exit 1
}

# run_to_the_end FOLDER MODULE ARGUMENTS...: `python -m MODULE ARGUMENTS` in one process a task, again and again, as train.launch.restart decides.
# What is counted is kept below FOLDER.
run_to_the_end() {
    local folder=$1 word reason
    shift
    TORCHELASTIC_ERROR_FILE=$(realpath -m "$folder")/slurm/$SLURM_JOB_ID-error.json # a rank tells there what is the user's to mend
    export TORCHELASTIC_ERROR_FILE
    while true; do
        say "$("$PYTHON" -m train.launch.restart begin "$folder")"
        srun --quiet --kill-on-bad-exit=1 --distribution=block "$PYTHON" -m "$@"
        read -r word reason <<<"$("$PYTHON" -m train.launch.restart end "$folder" $?)"
        say "${reason:-no verdict: gives up}"
        case $word in
        done) exit 0 ;;
        again) wait_for_nodes ;;
        requeue) requeue ;;
        *) exit 1 ;;
        esac
    done
}

[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || wait_for_nodes
