"""A job as a batch script of Slurm, which queues itself again as long as each session gets further."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from limner.core.errors import UserError
from limner.machine.job import MARGIN, PATIENCE, Beside, Job

NOTICE = 120
"""Seconds before the time limit at which the script is told, so that it can queue itself again."""


@dataclass(frozen=True)
class Slurm:
    """What a script says of its cluster; `setup` are lines that a shell runs on each node before anything else."""

    partition: str = ""
    account: str = ""
    cpus_per_gpu: int = 8
    setup: Sequence[str] = ()


def slurm(job: Job, where: Slurm, written_by: str) -> str:
    """Return the script. Raises UserError for a run without max_hours, for a job has a time limit."""
    if not job.hours:
        raise UserError(
            "launch slurm: a job has a time limit, which follows from that of a session: say it with --max-hours, as "
            "in --max-hours 12"
        )
    given = job.gpus + (job.beside.gpus if job.beside else 0)
    asked = {
        "job-name": job.name,
        "partition": where.partition,
        "account": where.account,
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": given,
        "cpus-per-task": given * where.cpus_per_gpu,
        "mem": 0,
        "time": _time(job.seconds),
        "signal": f"B:USR1@{NOTICE}",
        "open-mode": "append",
        "output": "%x-%j.out",
    }
    options = "\n".join(f"#SBATCH --{name}={value}" for name, value in asked.items() if value != "")
    inner = [*where.setup, *(_judge(job.beside, job.gpus) if job.beside else []), _train(job)]
    return SCRIPT.format(
        written_by=written_by,
        options=options,
        hours=f"{job.hours:g}",
        margin=MARGIN // 60,
        session="\n".join(f"    {line}" for line in inner),
        checkpoints=shlex.quote(f"{job.folder}/checkpoints"),
        last=job.sessions - 1,
        sessions=job.sessions,
        head=HEAD if job.nodes > 1 else "",
    )


HEAD = """
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export head"""
SCRIPT = """\
#!/bin/bash
# Written by: {written_by}
# Submit it with sbatch, in the folder that its paths are relative to and that all nodes see.
{options}
#SBATCH --requeue

# A session stops by itself before {hours} hours are over, with a checkpoint. The job has {margin} minutes more.

session() {{  # on each node
{session}
}}

newest() {{
    ls {checkpoints} 2>/dev/null | sort | tail -n 1
}}

again() {{  # in another session, if this one got further
    if [ "$(newest)" = "$before" ]; then
        echo "no checkpoint is new: the job is not queued again" >&2
    elif [ "${{SLURM_RESTART_COUNT:-0}}" -ge {last} ]; then
        echo "{sessions} sessions are over: submit the job again to go on" >&2
    else
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit 1
}}

before=$(newest)
export -f session{head}
trap again USR1
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c session &
wait $! || again
"""


def _time(seconds: int) -> str:
    """Return a time limit as Slurm reads it: DAYS-HOURS:MINUTES:SECONDS."""
    return f"{seconds // 86400}-{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _train(job: Job) -> str:
    return job.command('"$head"', '"$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"')


def _judge(beside: Beside, gpus: int) -> list[str]:
    """Return the lines that start a judge on the node's last GPUs, or on none, and leave the others to the run."""
    apart = beside.gpus > 0
    cards = ['IFS=, read -ra cards <<< "$CUDA_VISIBLE_DEVICES"'] if apart else []
    own = f'"$(IFS=,; echo "${{cards[*]:{gpus}:{beside.gpus}}}")"' if apart else ""
    left = [f'export CUDA_VISIBLE_DEVICES="$(IFS=,; echo "${{cards[*]:0:{gpus}}}")"'] if apart else []
    return [
        *cards,
        f"CUDA_VISIBLE_DEVICES={own} {beside.command} &",
        "judge=$!",
        "trap 'kill \"$judge\"' EXIT",
        f"for _ in $(seq {PATIENCE // 2}); do",
        f"    {beside.listens} 2>/dev/null && break",
        '    kill -0 "$judge" || exit 1',
        "    sleep 2",
        "done",
        *left,
    ]
