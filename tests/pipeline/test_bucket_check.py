"""`pairloom doctor s3://…`: each thing that a run needs of a bucket by itself, and the cure of what does not work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.cli import main
from tests import bucket as faults
from tests.bucket import Server, content, serving

BUCKET = "s3://pairs/data"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Any]]:
    monkeypatch.setattr("pairloom.store.bucket.PAUSE_S", 0.01)
    monkeypatch.setattr("pipeline.bucket_check.PATIENCE_S", 0.1)
    with serving("pairs") as found:
        yield found


def unwell(capsys: pytest.CaptureFixture[str], address: str = BUCKET) -> dict[str, str]:
    """Cure of each check that fails."""
    capsys.readouterr()
    code = main(["doctor", address, "--json"])
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert len(checks) == 8
    failed = {check["name"]: check["cure"] for check in checks if not check["ok"]}
    assert code == bool(failed)
    return failed


def test_all_is_well_and_nothing_stays(there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert unwell(capsys) == {}
    assert content(there[1], "pairs") == {}
    assert main(["doctor", BUCKET]) == 0
    assert "all that is required works" in capsys.readouterr().out


def test_what_does_not_work_is_named_with_its_cure(
    there: tuple[Server, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = there[0]
    assert next(iter(unwell(capsys, "s3://elsewhere/x").values())) == "correct the name, or create the bucket"
    server.rule = lambda method, path: faults.EXPIRED
    assert len(unwell(capsys)) == 8
    denied = faults.said("403 Forbidden", "AccessDenied")
    server.rule = lambda method, path: denied if method == "PUT" else None
    failed = unwell(capsys)
    assert next(iter(failed)) == "the right to write"
    assert "give these credentials the right" in failed["the right to write"]
    assert set(list(failed.values())[1:]) == {""}  # not tried
    server.rule = lambda method, path: denied if method == "POST" else None
    assert list(unwell(capsys)) == ["upload in parts", "the right to delete"]

    def heedless(environ: Any, answer: Any) -> Any:
        environ.pop("HTTP_IF_NONE_MATCH", None)
        environ.pop("HTTP_IF_MATCH", None)
        return answer()

    server.rule = lambda method, path: heedless
    failed = unwell(capsys)
    assert list(failed) == ["put where nothing is (If-None-Match)", "put in the place of a known version (If-Match)"]
    assert "`pairloom push`" in failed["put where nothing is (If-None-Match)"]
    server.rule = lambda method, path: None
    monkeypatch.setattr("pipeline.bucket_check.time.time", lambda: 1e9)
    assert list(unwell(capsys)) == ["clock"]
