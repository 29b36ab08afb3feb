#!/usr/bin/env bash
#SBATCH --job-name=pretrain
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@300
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --output=%x-%j.log
#
# A stage of training, one process a GPU, through preemptions, crashes and lost nodes to its last step:
#
#   sbatch --nodes=20 --account=MINE slurm/pretrain.sh model=deepseek_ocr_3b parallel=paper data.root=/shared/pages
#
# Flags of sbatch stand before the script, overrides of `python -m train` behind it. The run's folder is runs/JOBNAME-JOBID, or run.directory
# and run.name. docs/cluster.md tells the rest.
. "${MICROFICHE:-$SLURM_SUBMIT_DIR}/slurm/lib.sh" || exit 2

name=$(option run.name "$SLURM_JOB_NAME-$SLURM_JOB_ID" "$@")
run_to_the_end "$(option run.directory runs "$@")/$name" train "$@" "run.name='$name'"
