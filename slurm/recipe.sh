#!/usr/bin/env bash
#SBATCH --job-name=recipe
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
# A whole recipe in one job: pages, stages, evaluation, report.
#
#   sbatch --nodes=2 slurm/recipe.sh recipe=smoke name=first
#
# The folder is runs/NAME; without name= it is runs/JOBNAME-JOBID.
. "${MICROFICHE:-$SLURM_SUBMIT_DIR}/slurm/lib.sh" || exit 2

name=$(option name "$SLURM_JOB_NAME-$SLURM_JOB_ID" "$@")
run_to_the_end "$(option directory runs "$@")/$name" train.recipe "$@" "name='$name'"
