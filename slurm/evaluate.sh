#!/usr/bin/env bash
#SBATCH --job-name=evaluate
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=4:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@60
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --output=%x-%j.log
#
# How well a model reads, its pages divided among all GPUs. What was read is kept in a journal, so that an interrupted job goes on.
#
#   sbatch slurm/evaluate.sh checkpoint=runs/pretrain-17 pages=512
. "${MICROFICHE:-$SLURM_SUBMIT_DIR}/slurm/lib.sh" || exit 2

run_to_the_end "$(option out runs "$@")" train.evaluate "$@"
