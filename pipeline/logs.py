"""Where the numbers of a training go: TensorBoard, W&B or MLflow, each behind `Log`. None talks to a server unasked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from pairloom.errors import ConfigError

EXTRAS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow or mlflow-skinny"}


class Log(Protocol):
    """A program that draws curves."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """values: by names such as loss/mlm. The part before the slash is a group of curves."""

    def close(self) -> None: ...


class TensorBoard:
    """torch's own writer: event files in `folder`."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any], done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What a killed run wrote after its last state comes again, and is shown once.
        self._writer = SummaryWriter(str(folder), purge_step=done + 1 if done else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WandB:
    """W&B. Files in `folder` alone, for `wandb sync`, unless WANDB_MODE says otherwise."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any], done: int) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(project="pairloom", name=name, dir=folder, config=dict(settings), mode=mode)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """MLflow. Files in `folder`/mlruns, for `mlflow ui`, unless MLFLOW_TRACKING_URI names a server."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any], done: int) -> None:
        import mlflow

        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer ones ask. A database needs their large package
        uri = os.environ.get("MLFLOW_TRACKING_URI", (folder / "mlruns").resolve().as_uri())
        self._client = mlflow.MlflowClient(uri)
        found = self._client.get_experiment_by_name("pairloom")
        experiment = found.experiment_id if found else self._client.create_experiment("pairloom")
        self._run = self._client.create_run(experiment, run_name=name).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._run, key, value)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


KINDS: dict[str, Callable[[Path, str, Mapping[str, Any], int], Log]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}


def opened(names: Sequence[str], folder: Path, name: str, settings: Mapping[str, Any], done: int) -> list[Log]:
    """Raises ConfigError for a program that is not installed."""
    logs: list[Log] = []
    for kind in names:
        try:
            logs.append(KINDS[kind](folder, name, settings, done))
        except ImportError as error:
            fix = f"pip install {EXTRAS[kind]}, or leave it out"
            raise ConfigError(f"{kind} is not installed: {error}", f"train.{name}.log", fix) from error
    return logs


def close(logs: Sequence[Log]) -> None:
    """Each, also where another can't be."""
    with ExitStack() as stack:
        for log in logs:
            stack.callback(log.close)
