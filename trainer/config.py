"""`Config`: what a training is told beside its recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from devices.parallel import Parallel
from pairloom.errors import ConfigError
from pairloom.loader.options import Resize
from pairloom.typed import Positive, Range, check_ranges
from trainer.precision import Precision


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `train.<recipe>` of params.yaml. Null means what the recipe says."""

    size: str = "tiny"  # of the model: base, or one of the sizes that the recipe lists
    variant: str | None = None  # of the recipe: one that it lists, such as no-questions
    steps: Positive | None = None  # of training
    batch_size: Positive | None = None  # rows, over all ranks
    lr: Annotated[float, Range(above=0)] | None = None  # learning rate at its height
    seed: int = 0  # of all that is random in training
    languages: tuple[str, ...] | None = None  # of the captions, as BCP 47 codes, empty means all
    texts: str | None = None  # table of texts without images (`pairloom texts`), for rows of text alone
    vocabulary: str | None = None  # a tokenizer.json or vocab.txt. Null trains one on the captions
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    precision: Precision = "float32"  # of the arithmetic, weights stay float32
    init: str | None = None  # weights to start from: a folder that training wrote, or published (how-to/weights.md)
    init_partial: bool = False  # whether published weights may give a part of the model only some of its tensors
    workers: Annotated[int, Range(0)] = 0  # processes that prepare batches
    # Where pictures are resized and augmented: `loader` by Pillow in its processes, `device` where the model is.
    resize: Resize = "loader"
    threads: Positive | None = None  # of torch on a CPU, another number gives other rounding
    accumulate: Positive = 1  # parts in which the model reads a rank's batch, so that it needs the memory of one
    recompute: bool = False  # whether layers are computed again in the backward pass, to save their activations' memory
    compile: bool = False  # whether torch.compile translates the model's layers
    parallel: Parallel = (
        "average"  # of ranks: gradients averaged after the backward pass, ddp (during it), fsdp (FSDP2)
    )
    sync_batch_norm: bool = False  # whether batch norms that are trained see the batch of all ranks
    ema: Annotated[float, Range(0, below=1)] | None = None  # decay of a moving average of the weights, which is saved
    eval_every: Positive | None = None  # steps between tests on the val split. The best weights are kept in OUT-best
    best_by: Literal["loss", "retrieval"] = "loss"  # what is best: mean held-out loss, or mean recall at 1, 5 and 10
    save_every_s: Annotated[float, Range(0)] = 600.0  # a killed run loses at most so many seconds
    log: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()  # programs that get losses and speed, in OUT.log
    log_every: Positive = 10  # steps
    keep_states: Positive = 2  # of the states that a killed run resumes from, the newest ones
    resume: str = "auto"  # auto takes the newest state of these settings, if any; never; or the file of a state

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.parallel == "fsdp" and self.precision == "float16":
            given = "parallel is fsdp and precision float16, whose scaling was not tested on pieces of tensors"
            raise ConfigError(given, "train.precision", "set bfloat16")

    def overrides(self) -> dict[str, Any]:
        """What of this replaces settings of the recipe."""
        given = {key: getattr(self, key) for key in ("steps", "batch_size", "lr")}
        training = {key: value for key, value in given.items() if value is not None}
        text = {} if self.languages is None else {"languages": list(self.languages)}
        return {"training": training, "text": text}
