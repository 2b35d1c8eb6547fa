"""`pairloom run --out s3://…`: every stage on a dataset in a bucket, and the bytes of the same run on a disk."""

from __future__ import annotations

from pathlib import Path

import yaml

from pipeline.cli import main
from tests.bucket import below
from tests.pipeline.far import BUCKET, emptied, in_bucket, tables
from tests.serving import pictures, write_list


def run(out: str) -> list[str]:
    return ["run", "--urls", "list.csv", "--out", out, "--cluster", "inline", "--params", "settings.yaml", "--quiet"]


def test_a_whole_run_writes_what_it_writes_on_a_disk_and_then_nothing_is_due(tmp_path: Path) -> None:
    with emptied(tmp_path) as (server, client), pictures(Path("www"), 10) as host:
        write_list(Path("list.csv"), host, range(11))  # one is missing
        settings = {
            "sample": {"rows_per_shard": 4},
            "download": {"allow_hosts": [host]},
            "shards": {"regions": False, "tags": False, "similar": True, "val_share": 0.3, "shard_bytes": 1 << 17},
        }
        Path("settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        assert main(run("here")) == 0
        assert main(run(BUCKET)) == 0
        wanted = tables(below(Path("here")))
        assert {name.partition("/")[0] for name in wanted} >= {"urls", "download", "curate", "negatives", "shards"}
        assert "quarantine/download/00002.parquet" in wanted
        found = in_bucket(client)
        assert {name: body for name, body in found.items() if not name.startswith("metrics")} == {
            name: body for name, body in wanted.items() if not name.startswith("metrics")
        }
        server.asked.clear()
        assert main(run(BUCKET)) == 0
        assert not [path for method, path in server.asked if method == "PUT" and path.endswith(".parquet")]
        assert tables(in_bucket(client)).keys() == wanted.keys()
        write_list(Path("list.csv"), host, range(8))
        assert main([*run(BUCKET), "--redo"]) == main([*run("here"), "--redo"]) == 0
        changed = tables(below(Path("here")))
        assert changed.keys() != wanted.keys()
        ours = {name: body for name, body in in_bucket(client).items() if name.startswith("shards/")}
        assert ours == {name: body for name, body in changed.items() if name.startswith("shards/")}
