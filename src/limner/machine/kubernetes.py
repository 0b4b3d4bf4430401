"""A job as Kubernetes has it: a pod a node, and one container more in each for a judge beside it.

A judge is an init container that goes on (Kubernetes 1.29): it is there before the run, and ends with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from limner.core.errors import UserError
from limner.machine.job import PATIENCE, Job

PLACE = "/work"
"""Where the volume is: what relative paths are relative to."""
PROBES = PATIENCE // 10


@dataclass(frozen=True)
class Kubernetes:
    """What a job says of its cluster: the image that has limner, and the claim of a volume that all pods write."""

    image: str
    volume: str


def kubernetes(job: Job, where: Kubernetes, written_by: str) -> str:
    """Return the manifest. Raises UserError where image or volume is not said."""
    for name, said in {"image": where.image, "volume": where.volume}.items():
        if not said:
            raise UserError(f"launch kubernetes: --{name} is missing: {MISSING[name]}")
    parts = [_service(job), _job(job, where)] if job.nodes > 1 else [_job(job, where)]
    head = f"# Written by: {written_by}\n# Submit it with kubectl apply -f, once; pods that end early are made again.\n"
    return head + "---\n".join(yaml.dump(part, Dumper=_Dumper, sort_keys=False, width=1000) for part in parts)


MISSING = {
    "image": "which container image has limner, as in --image registry.example/limner:1",
    "volume": "which claim of a volume holds prompts, models and runs, as in --volume shared",
}


def _service(job: Job) -> dict[str, Any]:
    """Return what gives the pods names by which they find one another."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": job.name},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": job.name},
        },
    }


def _job(job: Job, where: Kubernetes) -> dict[str, Any]:
    """Return the job. A session that ends early, because its time is over or by a fault, ends all of its pods."""
    command = job.command(f"{job.name}-0.{job.name}", job.name)
    pod: dict[str, Any] = {"restartPolicy": "Never"}
    if job.seconds:
        pod["activeDeadlineSeconds"] = job.seconds
    if job.nodes > 1:
        pod["subdomain"] = job.name
    if job.beside:
        probe = {"exec": {"command": ["bash", "-c", job.beside.listens]}, "periodSeconds": 10, "timeoutSeconds": 10}
        judge = _container("judge", where, f"exec {job.beside.command}", job.beside.gpus)
        pod["initContainers"] = [
            judge | {"restartPolicy": "Always", "startupProbe": probe | {"failureThreshold": PROBES}}
        ]
    pod["containers"] = [_container("limner", where, f"exec {command}", job.gpus)]
    pod["volumes"] = [
        {"name": "work", "persistentVolumeClaim": {"claimName": where.volume}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job.name},
        "spec": {
            "completions": job.nodes,
            "parallelism": job.nodes,
            "completionMode": "Indexed",
            "backoffLimit": job.nodes * (job.sessions - 1),
            "template": {"spec": pod},
        },
    }


def _container(name: str, where: Kubernetes, script: str, gpus: int) -> dict[str, Any]:
    """Return a container with so many GPUs, over the shared volume."""
    return {
        "name": name,
        "image": where.image,
        "workingDir": PLACE,
        "command": ["bash", "-c", script],
        **({"resources": {"limits": {"nvidia.com/gpu": gpus}}} if gpus else {}),
        "volumeMounts": [
            {"name": "work", "mountPath": PLACE},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
    }


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out, each where it stands: people read a manifest."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
