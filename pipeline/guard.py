"""Run a stage on a shard so that a row it cannot take costs that row only. The one home of `except Exception`."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from pairloom.errors import PairloomError, RunError
from pairloom.machine import of_the_machine
from pipeline.stage import LoadedStage
from schemas.quarantine import QUARANTINE
from stages import rows_done
from stages.contract import Result
from stages.rejects import Reject, quarantine

Tables = Sequence[pa.Table]


def run_guarded(stage: LoadedStage, tables: Tables, tools: Any) -> tuple[pa.Table, pa.Table]:
    """(output, rejects) of the stage on these input tables. Rows that make it raise are among the rejects.

    The first input's rows are halved until the failing ones are alone. An error that the user can cure
    (PairloomError) ends the run. So does what the machine lacks (MachineError), and a shard most of whose rows fail:
    that is no bad row but a bug.
    """
    failures: list[BaseException] = []

    def attempt(part: pa.Table) -> list[tuple[pa.Table, pa.Table]]:
        try:
            with rows_done.current().call(part.num_rows):
                return [_pair(stage.process(part, *tables[1:], tools))]
        except PairloomError:
            raise
        except Exception as error:  # whatever a row does, it costs that row only
            if lack := of_the_machine(error, f"stage {stage.name}"):
                raise lack from error
            if part.num_rows > 1:
                return _halves(part, attempt)
            failures.append(error)
            _refuse_bug(stage, failures, tables[0].num_rows)
            return [(stage.output.empty(), _failed(stage, part, error))]

    return _join(attempt(tables[0]))


def _halves(
    part: pa.Table, attempt: Callable[[pa.Table], list[tuple[pa.Table, pa.Table]]]
) -> list[tuple[pa.Table, pa.Table]]:
    middle = part.num_rows // 2
    return attempt(part.slice(0, middle)) + attempt(part.slice(middle))


def _refuse_bug(stage: LoadedStage, failures: list[BaseException], rows: int) -> None:
    if len(failures) > max(1, rows // 2):
        raise RunError(
            f"stage {stage.name} fails on most rows of a shard; the last error is\n"
            + "".join(traceback.format_exception(failures[-1])),
            where=f"stages/{stage.name}",
            fix="no single row is the cause: check the settings, run `pairloom doctor`, or report the bug",
        ) from failures[-1]


def _pair(result: Result) -> tuple[pa.Table, pa.Table]:
    return result if isinstance(result, tuple) else (result, QUARANTINE.empty())


def _failed(stage: LoadedStage, part: pa.Table, error: Exception) -> pa.Table:
    detail = "".join(traceback.format_exception_only(error)).strip()
    return reject_rows(stage.name, part, "stage-error", detail, attempts=1)


def reject_rows(stage: str, rows: pa.Table, reason: str, detail: str, attempts: int) -> pa.Table:
    """Quarantine rows for all of `rows`, whatever their table."""
    return quarantine(stage, [Reject(row_key(row), reason, detail, row, attempts) for row in rows.to_pylist()])


def row_key(row: dict[str, Any]) -> str:
    """What names a row in the quarantine table: its image_id in hex, or its url before it has one."""
    return row["image_id"].hex() if "image_id" in row else str(row["url"])


def _join(parts: list[tuple[pa.Table, pa.Table]]) -> tuple[pa.Table, pa.Table]:
    """The parts in order as one table. Its metadata is that of the first part that has any."""
    tables, rejects = zip(*parts, strict=True)
    metadata = next((table.schema.metadata for table in tables if table.schema.metadata), None)
    plain = [table.replace_schema_metadata(None) for table in tables]
    return pa.concat_tables(plain).replace_schema_metadata(metadata), pa.concat_tables(rejects)
