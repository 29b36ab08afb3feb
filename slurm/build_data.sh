#!/usr/bin/env bash
#SBATCH --job-name=build
#SBATCH --array=0-7
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --output=%x-%A_%a.log
#
# Shards of pages by many machines: each task of the array writes its share, and the one that finds all of them there completes the sets.
#
#   sbatch --array=0-19 slurm/build_data.sh corpus=mix_small out=/shared/pages
#
# The same bytes as `python -m data_pipeline.build corpus=mix_small out=/shared/pages` writes alone. Finished shards are kept.
. "${MICROFICHE:-$SLURM_SUBMIT_DIR}/slurm/lib.sh" || exit 2

first=${SLURM_ARRAY_TASK_MIN:-0} step=${SLURM_ARRAY_TASK_STEP:-1}
run_to_the_end "$(option out runs/pages "$@")" data_pipeline.build "$@" "workers=$SLURM_CPUS_PER_TASK" \
    "task=$(((${SLURM_ARRAY_TASK_ID:-0} - first) / step))" "tasks=${SLURM_ARRAY_TASK_COUNT:-1}"
