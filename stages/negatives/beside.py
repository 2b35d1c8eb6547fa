"""What some settings ask for beside captions, where these are plain lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from pairloom.errors import ConfigError
from stages.negatives.rule import Config


@dataclass(frozen=True)
class Beside:
    """Tags and vectors. Images are named by their ids as text."""

    tags: Mapping[str, Sequence[str]] | None = None  # image -> the texts of its tags, for `veto: tags`
    # (captions, E), any float: their vectors, for `scorer: embedding` and `veto: score`. Zeros where there is none
    texts: npt.NDArray[Any] | None = None
    pictures: Mapping[str, npt.NDArray[Any]] | None = None  # image -> (E,), for `veto: score`

    def refuse_lacking(self, config: Config) -> None:
        """Raises ConfigError where the settings ask for what is not here."""
        by_vectors = config.scorer == "embedding" or "score" in config.vetoes
        asked = {
            "veto has tags, and these captions come without tags": "tags" in config.vetoes and self.tags is None,
            "the rule asks for vectors, and these captions come without": by_vectors and self.texts is None,
            "veto has score, and there are no vectors of pictures": "score" in config.vetoes and self.pictures is None,
        }
        for wrong, lacks in asked.items():
            if lacks:
                raise ConfigError(wrong, "section negatives", "give them, or set another scorer or veto")
