"""In the place of img2dataset's resizer: our checks of a picture, then its own Resizer where it is asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from formats.datasets.img2dataset import reason_of
from stages.download.decoder import outcome
from stages.download.img2dataset_settings import Resizing
from stages.download.kinds import sniff
from stages.download.pictures import Limits

HEAD = 32  # bytes that suffice to tell the kind of a picture
OURS = "pairloom "  # begins an error message that holds an outcome of ours


class Stored(bytes):
    """A picture as it is stored, with its outcome: the Downloader hands it on as it is."""

    facts: Mapping[str, Any]


class Checks:
    """Img2dataset's resizer: our checks first, then its own Resizer where the settings ask for it."""

    def __init__(self, limits: Limits, resizing: Resizing | None) -> None:
        self.limits = limits if resizing is None else replace(limits, resize="none")
        self.theirs: Any = None
        if resizing is not None:
            from img2dataset.blurrer import BoundingBoxBlurrer  # type: ignore[import-untyped]
            from img2dataset.resizer import Resizer  # type: ignore[import-untyped]

            self.theirs = Resizer(**resizing.arguments(), blurrer=BoundingBoxBlurrer())

    def __call__(self, stream: io.BytesIO, asked: Mapping[str, Any]) -> tuple[Any, ...]:
        """The picture, width, height, original width and height, and an error message. None where there is none."""
        facts, image = self._checked(stream.read(), asked["checksum"])
        if "reason" not in facts and self.theirs is not None:
            facts, image = self._resized(facts, image, asked["boxes"])
        if "reason" in facts:
            return None, None, None, None, None, OURS + json.dumps(facts)
        stored = Stored(image)
        stored.facts = facts
        return stored, facts["width"], facts["height"], facts["original_width"], facts["original_height"], None

    def _checked(self, body: bytes, checksum: str | None) -> tuple[Mapping[str, Any], bytes]:
        kind = sniff(body[:HEAD])
        if kind is None:
            return {"reason": "not-an-image", "detail": f"it starts with {body[:12]!r}" if body else "it is empty"}, b""
        facts, image = outcome(body, kind, checksum or "", self.limits)
        return facts, image or body

    def _resized(self, facts: Mapping[str, Any], image: bytes, boxes: str | None) -> tuple[Mapping[str, Any], bytes]:
        try:
            said = None if boxes is None else json.loads(boxes)
        except ValueError as error:
            return {"reason": "bad-value", "detail": f"the boxes to blur are no JSON: {error}"[:300]}, b""
        made, *_, message = self.theirs(io.BytesIO(image), said)
        if message is not None:
            reason = reason_of("failed_to_resize", message)
            return {"reason": reason, "detail": f"img2dataset: {message}"[:300]}, b""
        # Once more through our checks: what is stored is known to open, and has its hash and perceptual hash.
        found, again = outcome(made, sniff(made[:HEAD]) or "jpeg", "", self.limits)
        original = {name: facts[name] for name in ("sha256", "original_width", "original_height")}
        return {**found, **({} if "reason" in found else original)}, again or made
