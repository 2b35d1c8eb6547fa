"""What `pairloom train` says while it trains: event files that TensorBoard opens, W&B and MLflow offline, a profile."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pairloom.errors import ConfigError
from pipeline import logs
from pipeline.cli import main
from pipeline.meter import Meter, peak_tflops
from systems import recipes
from tests.pairloom.loader.loading import write_folder
from trainer import loop
from trainer.history import History, Taken

CONFIG = loop.Config(steps=6, batch_size=8, threads=1, device="cpu", log=("tensorboard",), log_every=2, eval_every=3)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8), splits=("train", "val"))


def read(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard itself finds in a folder: of each curve the value at each step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: {one.step: one.value for one in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def trained(shards: Path, folder: Path, config: loop.Config, report: Any = None) -> loop.TrainResult:
    recipe = recipes.load("uniter", "tiny", config.overrides() | {"only": ["mlm", "itm"]})
    with Meter(config, "uniter", folder / "uniter.log") as meter:
        return loop.train(recipe, shards, config, report, folder / "uniter", meter)


def test_tensorboard_draws_losses_rates_speed_memory_and_tests(shards: Path, tmp_path: Path) -> None:
    result = trained(shards, tmp_path, CONFIG)
    found = read(tmp_path / "uniter.log")
    assert found["training/lr"].keys() == {2, 4, 6}
    assert {"loss/mlm", "loss/itm", "training/gradient_norm", "memory/gb", "speed/waiting_for_data"} <= found.keys()
    assert all(rate > 0 for rate in found["speed/rows_per_s"].values())
    assert 0 < found["memory/gb"][6] < 100
    wanted = {test["step"]: test["mlm_loss"] for test in result.metrics["tests"]}
    assert found["val/mlm_loss"] == pytest.approx(wanted)
    assert "speed/mfu" not in found  # of a CPU nobody says how much it could do


def test_a_resumed_run_goes_on_in_the_same_curves(shards: Path, tmp_path: Path) -> None:
    config = loop.Config(**(vars(CONFIG) | {"save_every_s": 0.0, "eval_every": None}))

    def stop(step: int, *_: object) -> None:
        if step == 5:  # the state of step 4 is kept
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(shards, tmp_path, config, stop)
    trained(shards, tmp_path, config)
    assert read(tmp_path / "uniter.log")["training/lr"].keys() == {2, 4, 6}


def test_the_arithmetic_is_counted_by_hand_of_a_known_model() -> None:
    """A linear layer of 8 rows, 16 × 32: 2 · 8 · 16 · 32 operations forwards, three times that for a step."""

    class Known(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(16, 32, bias=False)

        def forward(self, batch: Any) -> torch.Tensor:
            found: torch.Tensor = self.layer(batch.rows)
            return found

    class Given(list[int]):
        objective, rows = "mlm", torch.ones(8, 16)

    meter, model = Meter(loop.Config(log_every=1), "known", Path()), Known()
    written: dict[str, float] = {}
    meter.begin(model, 0)
    meter._logs = [type("Kept", (), {"write": lambda self, step, values: written.update(values), "close": int})()]
    model(Given(range(8)))
    meter._since -= 2.0
    meter.step(Taken(1, "mlm", {"mlm": 1.0}, 8, 0.1, None, History(("mlm",))))
    assert written["speed/tflops_per_device"] == pytest.approx(3 * 2 * 8 * 16 * 32 / 2.0 / 1e12, rel=0.05)
    assert not FlopCounterMode(display=False).get_total_flops()  # nobody counts any more


def test_peaks_are_those_of_the_device() -> None:
    assert peak_tflops("NVIDIA H100 80GB HBM3") == 989
    assert peak_tflops("NVIDIA H100 PCIe") == 756
    assert peak_tflops("NVIDIA A100-SXM4-80GB") == 312
    assert peak_tflops("A card of tomorrow") is None


def test_mlflow_writes_to_a_folder_and_finds_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (log,) = logs.opened(["mlflow"], tmp_path, "uniter", {"seed": "3"}, 0)
    log.write(2, {"loss/mlm": 7.5})
    log.write(4, {"loss/mlm": 6.5})
    log.close()
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("pairloom")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"seed": "3"}
    assert run.info.status == "FINISHED"
    assert [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss/mlm")] == [
        (2, 7.5),
        (4, 6.5),
    ]


@pytest.mark.slow
def test_wandb_writes_to_a_folder_and_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (log,) = logs.opened(["wandb"], tmp_path, "uniter", {"seed": "3"}, 0)
    log.write(2, {"loss/mlm": 7.5})
    log.close()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 60
    while b"loss/mlm" not in file.read_bytes():  # W&B's own process writes it, on a busy machine after `close`
        assert time.monotonic() < deadline, file.read_bytes()
        time.sleep(0.1)


def test_a_program_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> Any:
        raise ImportError("No module named 'mlflow'")

    monkeypatch.setitem(logs.KINDS, "mlflow", absent)
    with pytest.raises(ConfigError, match="pip install mlflow or mlflow-skinny"):
        logs.opened(["mlflow"], tmp_path, "uniter", {}, 0)


def test_the_command_logs_and_says_where_the_time_goes(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text("train: {clip: {batch_size: 4, threads: 1, device: cpu}}\n")
    monkeypatch.chdir(tmp_path)
    command = [
        "train",
        "--recipe",
        "clip",
        "--shards",
        str(shards),
        "--steps",
        "26",
        "--profile",
        "--log",
        "tensorboard",
    ]
    assert main([*command, "--quiet"]) == 0
    said = capsys.readouterr().err
    shares = {line[:24].strip(): float(line[24:31].rstrip("%")) for line in said.splitlines() if line[30:31] == "%"}
    assert shares.keys() >= {"data", "forward", "backward", "update", "rest", "outside the model"}
    assert sum(share for name, share in shares.items() if name != "outside the model") == pytest.approx(100, abs=1)
    assert shares["outside the model"] == pytest.approx(shares["data"] + shares["rest"], abs=0.2)
    events = json.loads((tmp_path / "models/clip.log/trace.json").read_text())["traceEvents"]
    assert {"data", "forward", "backward", "update"} <= {event.get("name") for event in events}
    assert read(tmp_path / "models/clip.log")["loss/contrastive"]
