"""Browse at an address shows what it shows of the folder that was pushed there."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from inspection.browse.server import application
from pairloom.errors import InputError
from pairloom.store.address import Address
from pairloom.store.mirror import standing_for
from pipeline.cli import main
from pipeline.curating import CurateStage
from pipeline.verbs import browsing
from tests.bucket import serving
from tests.inspection.browse.site import make_site
from tests.inspection.synthetic import FLOW

TOKEN = "t0ken"
PAGES = (
    "",
    "pictures",
    "row?t=curate&shard=00000&row=1",
    "left?t=download&shard=00000",
    "left-out",
    "rules",
    "image?t=curate&shard=00000&row=0",
)


def pages(root: Path) -> dict[str, tuple[int, bytes]]:
    client = TestClient(application([root], FLOW, CurateStage(), TOKEN), base_url="http://127.0.0.1:1")
    found = {page: client.get(f"/{TOKEN}/{page}") for page in PAGES}
    return {page: (one.status_code, one.content.replace(str(root).encode(), b"ROOT")) for page, one in found.items()}


def test_pages_of_an_address_are_those_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_site(tmp_path / "pairs" / "data")
    with serving("pairs"):
        assert main(["push", str(root), "s3://pairs/data"]) == 0
        with standing_for(Address("s3", "pairs", "data")) as stand:
            here, far = pages(root), pages(stand)
            assert {page: status for page, (status, _) in far.items()} == dict.fromkeys(PAGES, 200)
            assert far == here
            monkeypatch.setattr(browsing, "KEPT_BYTES", 1000)
            with pytest.raises(InputError, match="of an address"):
                browsing._refuse_large(stand)
