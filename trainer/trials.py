"""`Trials`: tests on the val split while a training goes on, and the weights of the best of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pairloom.metrics.retrieval import CUTS
from trainer.evaluate import Tested
from trainer.learner import Learner

WAYS = ("text_to_image", "image_to_text")
By = Literal["loss", "retrieval"]


@dataclass
class Trials:
    """every: steps. test: of a learner. save: what writes a learner's checkpoint into a folder. best: that folder.

    found: of each test `step`, `better` (the value that decides, lower is better) and its figures.
    """

    every: int
    by: By
    test: Callable[[Learner], Tested]
    save: Callable[[Path, Learner, Tested, int], None]
    best: Path | None  # None: nothing is kept
    found: list[dict[str, float]] = field(default_factory=list)

    def run(self, step: int, learner: Learner) -> dict[str, float]:
        """Test the learner after so many steps. The first rank keeps its weights if none were better."""
        tested = self.test(learner)
        found = {"step": step, "better": better(tested, self.by), **figures(tested)}
        self.found.append(found)
        if self.best is not None and found == min(self.found, key=lambda one: one["better"]):
            part = self.best.with_name(f"{self.best.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            self.save(part, learner, tested, step)
            shutil.rmtree(self.best, ignore_errors=True)
            part.rename(self.best)
        return found


def better(tested: Tested, by: By) -> float:
    """The mean of the held-out losses, or minus the mean of the recalls of both directions."""
    held, retrieval = tested
    if by == "loss":
        return sum(one.loss for one in held.values()) / len(held)
    assert retrieval is not None, "the configuration was refused before"
    recalls = [float(retrieval[way][f"r_at_{cut}"]) for way in WAYS for cut in CUTS]
    return -sum(recalls) / len(recalls)


def figures(tested: Tested) -> dict[str, float]:
    """The numbers of a test by their names in a log."""
    held, retrieval = tested
    found = {f"{name}_loss": one.loss for name, one in held.items()}
    found |= {f"{name}_score": one.score for name, one in held.items() if one.score is not None}
    if retrieval is not None:
        found |= {f"{way}_r_at_{cut}": retrieval[way][f"r_at_{cut}"] for way in WAYS for cut in CUTS}
    return found
