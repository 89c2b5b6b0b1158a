#!/bin/bash
# Rebuild a subset every night, on a SLURM cluster.
#
# Once, now: sbatch slurm.sh. Every night, where the cluster has scrontab: `scrontab -e`, and there the lines of #SCRON
# below (as they are) and, after them, the one line that begins with a time.
#SBATCH --job-name=coco-diy
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --output=nightly-%j.out
# SIGTERM some time before the end: what is on the disk is whole, and the next run goes on. B: it goes to the batch script,
# which is the command itself, for `exec` leaves no shell; without B: only steps started by `srun` would hear of it.
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#
#SCRON --job-name=coco-diy
#SCRON --cpus-per-task=4
#SCRON --mem=4G
#SCRON --time=04:00:00
#SCRON --signal=B:TERM@120
#SCRON --output=nightly.out
# 17 3 * * * /srv/bikes/slurm.sh

# As many workers as the job has cores. Lustre without flock is fine: a lease keeps two runs apart.
exec /srv/bikes/.venv/bin/coco-diy build -C /srv/bikes nightly.yaml --quiet --wait-lock 10m \
  --log-file nightly.log --workers "${SLURM_CPUS_PER_TASK:-1}"
