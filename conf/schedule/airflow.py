"""Rebuild a subset every night, by Airflow; train if it changed.

Put it into the folder of DAGs (Airflow 2.8 or newer). With --unchanged-exit 99 a build that has nothing to do ends with
99, which skips the task, and with it those that come after.
"""

from __future__ import annotations

import datetime

from airflow import DAG
from airflow.operators.bash import BashOperator

with DAG(
    "nightly_subset",
    schedule="17 3 * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,  # what is built is the state of now, whatever day it is for
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": datetime.timedelta(minutes=15)},
) as dag:
    rebuild = BashOperator(
        task_id="rebuild",
        # Airflow stops a task by SIGTERM, and `exec` lets the command itself have it: it stops within seconds.
        bash_command=(
            "exec /srv/bikes/.venv/bin/coco-diy build -C /srv/bikes nightly.yaml --quiet --wait-lock 10m "
            "--unchanged-exit 99 --log-file nightly.log"
        ),
        skip_on_exit_code=99,
        append_env=True,
    )
    train = BashOperator(
        task_id="train", bash_command="yolo detect train data=/srv/bikes/bikes/data.yaml model=yolo11n.pt"
    )
    rebuild >> train
