"""`download.engine: img2dataset` runs the real img2dataset on a server on loopback, with our checks and reasons."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import socket
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pairloom import ConfigError
from pairloom.extra import EXTRA, as_extra
from schemas.urls import URLS
from stages import download, rows_done
from stages.download import img2dataset_settings
from stages.download.spool import key_of
from tests.stages.download.hostile import HostileServer, reply
from tests.stages.download.test_local import rotated

blurrer, resizer, main = (pytest.importorskip(f"img2dataset.{name}") for name in ("blurrer", "resizer", "main"))


def picture(seed: int, size: tuple[int, int] = (60, 40)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (size[1] // 4, size[0] // 4, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


ANSWERS = {
    "/plain.jpg": reply(picture(1)),
    "/turned.jpg": reply(rotated()),
    "/large.jpg": reply(picture(2, (600, 400))),
    "/cut.jpg": reply(picture(3, (200, 200))[:1500]),
    "/page.html": reply(b"<html>no picture</html>"),
    "/gone.jpg": reply(status=404),
    "/noai.jpg": reply(picture(4), X_Robots_Tag="noai"),
    "/other.jpg": reply(picture(5)),
    "/away.jpg": reply(status=302, Location="http://10.0.0.1/secret.jpg"),
}
REASONS = {
    "/cut.jpg": "damaged-image",
    "/page.html": "not-an-image",
    "/gone.jpg": "not-found",
    "/noai.jpg": "opt-out",
    "/other.jpg": "checksum",
    "/away.jpg": "address-refused",
    "http://10.0.0.7/x.jpg": "address-refused",
    "http://localhost:1/x.jpg": "address-refused",
    "file:///etc/passwd": "scheme-refused",
    "http://no-such-host.invalid/x.jpg": "dns",
}


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    made = HostileServer()
    made.answers.update(ANSWERS)
    yield made
    made.close()


def listed(server: HostileServer, extras: dict[str, str] | None = None) -> pa.Table:
    urls = [name if "://" in name else server.url(name) for name in dict.fromkeys((*ANSWERS, *REASONS))]
    wrong = f"sha256:{'0' * 64}"
    right = f"md5:{hashlib.md5(picture(1)).hexdigest()}"
    sums = [{"/other.jpg": wrong, "/plain.jpg": right}.get(name) for name in dict.fromkeys((*ANSWERS, *REASONS))]
    table = URLS.table(url=urls, checksum=sums, captions=[[]] * len(urls), extra=[[]] * len(urls))
    if extras:
        names = [f"/{url.rpartition('/')[2]}" for url in urls]
        rows = [as_extra({"faces": extras[name]} if name in extras else {}) for name in names]
        place = table.schema.get_field_index("extra")
        table = table.set_column(place, table.schema.field(place), pa.array(rows, EXTRA))
    return table


def ran(server: HostileServer, urls: pa.Table, **settings: Any) -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
    """(path -> stored row, path or URL -> reason and detail)."""
    config = download.Config(
        allow_hosts=(f"127.0.0.1:{server.port}",), max_side=256, retries=0, robots=False, backoff_s=0.001, **settings
    )
    tools = download.setup(config, None)
    try:
        table, rejects = download.process(urls, tools)
    finally:
        tools.engine.close()
    home = server.url("")
    stored = {row["url"].removeprefix(home): row for row in table.to_pylist()}
    return stored, {row["key"].removeprefix(home): (row["reason"], row["detail"]) for row in rejects.to_pylist()}


def test_rows_that_have_an_outcome_are_counted_while_others_wait(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_done, "EVERY_S", 0.05)
    said: list[float] = []
    seen = threading.Event()

    def heard(rows: float) -> None:
        said.append(rows)
        if rows >= 2:
            seen.set()

    def slow(connection: socket.socket, path: str) -> None:
        seen.wait(60)  # until two rows of three are known to be done
        reply(picture(9))(connection, path)

    server.answers["/slow.jpg"] = slow
    urls = listed(server)
    names = [server.url(name) for name in ("/plain.jpg", "/gone.jpg", "/slow.jpg")]
    urls = urls.slice(0, 3).set_column(0, urls.schema.field("url"), pa.array(names))
    with rows_done.counting(heard, every_s=0.0), rows_done.current().call(3):
        ran(server, urls, engine="img2dataset")
    assert seen.is_set()
    assert said == sorted(said)
    assert said[-1] == 3


def test_it_stores_what_our_engine_stores_and_gives_our_reasons(server: HostileServer) -> None:
    urls = listed(server)
    ours, our_rejects = ran(server, urls)
    theirs, their_rejects = ran(server, urls, engine="img2dataset")
    assert set(ours) == {"/plain.jpg", "/turned.jpg", "/large.jpg"}
    assert theirs == ours
    assert {name: reason for name, (reason, _) in their_rejects.items()} == REASONS
    assert {name: reason for name, (reason, _) in our_rejects.items()} == REASONS
    assert their_rejects["/gone.jpg"][1] == "img2dataset: failed_to_download, HTTP Error 404: Whatever"
    assert "10.0.0.1, a private address" in their_rejects["/away.jpg"][1]


def test_its_own_settings_crop_and_blur_as_img2dataset_does(server: HostileServer, tmp_path: Path) -> None:
    file = tmp_path / "i2d.yaml"
    file.write_text(
        "resize_mode: center_crop\nimage_size: 32\nencode_format: png\nencode_quality: 6\nbbox_col: faces\n"
    )
    boxes = {"/plain.jpg": json.dumps([[0.0, 0.0, 1.0, 1.0]]), "/large.jpg": "[[0.", "/turned.jpg": "[]"}
    stored, rejects = ran(server, listed(server, boxes), engine="img2dataset", img2dataset_config=str(file))
    assert rejects["/large.jpg"][0] == "bad-value"
    for name in ("/plain.jpg", "/turned.jpg"):
        row = stored[name]
        assert (row["format"], row["width"], row["height"]) == ("png", 32, 32)
        assert Image.open(io.BytesIO(row["image"])).size == (32, 32)
        assert row["image_id"] == hashlib.sha256(row["image"]).digest()[:16]
    body = picture(1)
    assert stored["/plain.jpg"]["sha256"] == hashlib.sha256(body).digest()
    assert (stored["/plain.jpg"]["original_width"], stored["/plain.jpg"]["original_height"]) == (60, 40)
    chosen = img2dataset_settings.read(str(file)).resizing
    assert chosen is not None
    with warnings.catch_warnings(action="ignore"):  # albumentations has some about its own pydantic
        theirs = resizer.Resizer(**chosen.arguments(), blurrer=blurrer.BoundingBoxBlurrer())
        blurred, plain = (theirs(io.BytesIO(body), boxes) for boxes in ([[0.0, 0.0, 1.0, 1.0]], None))
    assert stored["/plain.jpg"]["image"] == blurred[0] != plain[0]
    assert {name: reason for name, (reason, _) in rejects.items() if name != "/large.jpg"} == REASONS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("output_format: webdataset", "output_format is no setting of the engine: tables are written"),
        ("resize_mode: squash", "resize_mode is 'squash'"),
        ("nonsense: 1", "there is no setting nonsense"),
        ("retries: -1", "retries is -1"),
        ("- 3", r"settings are \[3\]"),
        ("{", "cannot be read"),
    ],
)
def test_a_setting_that_the_engine_does_not_take_is_refused_by_name(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "i2d.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        img2dataset_settings.read(str(file))


def test_a_file_of_settings_needs_the_engine_and_the_demos_server_ours() -> None:
    with pytest.raises(ConfigError, match=r"img2dataset_config is 'x', and the engine is pairloom"):
        download.Config(img2dataset_config="x")
    with pytest.raises(ConfigError, match="which img2dataset cannot reach"):
        download.Config(engine="img2dataset", serve="folder")


def test_the_defaults_are_those_of_img2dataset() -> None:
    theirs = {name: each.default for name, each in inspect.signature(main.download).parameters.items()}
    for name, value in img2dataset_settings.Resizing().arguments().items():
        assert theirs[name] == value, name
    for name in (*img2dataset_settings.Resizing().arguments(), *img2dataset_settings.ELSEWHERE):
        assert name in theirs
    taken = {*img2dataset_settings.Resizing.__dataclass_fields__, *img2dataset_settings.Asking.__dataclass_fields__}
    assert set(theirs) == taken | set(img2dataset_settings.ELSEWHERE)
    assert set(resizer.ResizeMode.__members__) == {"no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"}


@pytest.mark.slow
def test_what_is_finished_of_a_shard_is_not_asked_again(server: HostileServer, tmp_path: Path) -> None:
    config = download.Config(engine="img2dataset", allow_hosts=(f"127.0.0.1:{server.port}",), retries=0)
    tools = download.setup(config, tmp_path / "a/b/c")
    rows = [(server.url("/plain.jpg"), None)]
    for _ in range(2):
        with tools.engine.run(rows, tmp_path / "partial") as spool:
            assert spool.stored(key_of(*rows[0]))
        server.answers["/plain.jpg"] = reply(status=500)
    server.answers["/plain.jpg"] = ANSWERS["/plain.jpg"]
    tools.engine.close()
