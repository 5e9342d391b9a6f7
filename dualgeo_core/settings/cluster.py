"""Settings of the processes that write shards, and of the nodes that train, on a Ray cluster."""

from typing import Literal

from pydantic import Field

from dualgeo_core.settings.base import Positive, Section

EngineName = Literal["local", "ray"]


class RaySettings(Section):
    actors: Positive | None = Field(
        None, description="Processes that write shards; None: as many as its CPUs and GPUs allow."
    )
    cpus: Positive | None = Field(None, description="CPUs of each process; None: `threads`.")
    gpus: float | None = Field(
        None, ge=0, description="GPUs of each process, e.g. 0.5 for two on one; None: 1 if the cluster has any."
    )
    training_nodes: Positive | None = Field(
        None,
        description="Nodes that train, each with its share of `training.processes`; None: training runs where its "
        "step runs.",
    )
