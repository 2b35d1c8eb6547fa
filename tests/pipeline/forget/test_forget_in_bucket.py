"""`pairloom forget s3://…`: the bytes are those of a dataset on a disk, wherever it was stopped."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pairloom.store import tombstones
from pipeline.cli import main
from tests import bucket as faults
from tests.bucket import Server, below, content
from tests.pipeline.far import BUCKET, emptied, in_bucket, tables
from tests.pipeline.features.test_joining import dataset, pair

GONE = (1, 6, 7)  # rows; both of the second shard of two are there, and none of the third


@pytest.fixture
def there(tmp_path: Path) -> Iterator[tuple[Server, Any]]:
    with emptied(tmp_path) as found:
        dataset(Path("before"), list(range(10)))
        lines = [pair(row)["image_id"].hex() if row % 2 else pair(row)["url"] for row in GONE]
        Path("ids.txt").write_text("\n".join(lines), encoding="utf-8")
        shutil.copytree("before", "here")
        assert main(["forget", "here", "--ids", "ids.txt", "--quiet"]) == 0
        yield found


def forget() -> int:
    return main(["forget", BUCKET, "--ids", "ids.txt", "--quiet"])


def test_what_is_forgotten_is_nowhere_and_a_stopped_call_is_finished(
    there: tuple[Server, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = there
    monkeypatch.setattr("pairloom.store.lease.TERM_S", 0.5)  # a stopped call of this process cannot end its leases
    monkeypatch.setattr("pairloom.store.lease.LOOK_S", 0.1)
    wanted = tables(below(Path("here")))
    assert tombstones.NAME in wanted
    client.put_object(Bucket="pairs", Key="d/.index/kept/gathered-curate/0-1.arrow", Body=b"texts")
    client.put_object(Bucket="pairs", Key="d/.index/kept/tars.json", Body=b"{}")
    changes = ("PUT", "DELETE", "POST")
    assert main(["push", "before", BUCKET]) == 0
    server.asked.clear()
    assert forget() == 0
    assert in_bucket(client) == wanted
    left = {name for name in content(client, "pairs") if "/.locks/" not in name} - {f"d/{name}" for name in wanted}
    assert left == {"d/.index/kept/tars.json"}
    steps = sum(method in changes for method, _ in server.asked)
    for step in random.Random(0).sample(range(12, steps - 8), 2):  # neither before its first nor after its last change
        assert main(["push", "before", BUCKET]) == 0
        client.delete_object(Bucket="pairs", Key=f"d/{tombstones.NAME}")
        asked = len(server.asked)

        def rule(method: str, path: str, asked: int = asked, step: int = step) -> Any:
            made = sum(one in changes for one, _ in server.asked[asked:])
            return faults.EXPIRED if made > step else None

        server.rule = rule
        assert forget() == 1
        server.rule = lambda method, path: None
        capsys.readouterr()
        if any(name.startswith("d/.forget/") for name in content(client, "pairs")):
            assert main(["curate", BUCKET, "--out", BUCKET, "--cluster", "inline", "--quiet"]) == 1
            assert f"run `pairloom forget {BUCKET}` to finish that" in capsys.readouterr().err
        assert forget() == 0
        assert in_bucket(client) == wanted
