"""Which errors are the machine's: they end a run or move a shard to another worker, and no row is blamed for them."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch

from pairloom.errors import MachineError
from pairloom.machine import of_the_machine

OF_THE_MACHINE = (
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT),
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EROFS),
)
OF_A_ROW = (errno.ENOENT, errno.EACCES, errno.EISDIR, errno.EINVAL, errno.ECONNREFUSED, errno.ENAMETOOLONG)
# As CUDA 12 and 13, cuBLAS and torch 2 say it.
OF_A_GPU: dict[str, type[RuntimeError]] = {
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.10 GiB": torch.OutOfMemoryError,
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported": torch.AcceleratorError,
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": RuntimeError,
    "CUDA error: uncorrectable ECC error encountered": torch.AcceleratorError,
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable": torch.AcceleratorError,
    "No CUDA GPUs are available": RuntimeError,
}


@pytest.mark.parametrize("number", OF_THE_MACHINE, ids=lambda number: errno.errorcode[number])
def test_a_number_of_the_machine_is_named_with_its_file_and_a_cure(number: int) -> None:
    found = of_the_machine(OSError(number, os.strerror(number), "/data/a.parquet"), "stage tags")
    assert isinstance(found, MachineError)
    assert found.args[:2] == (f"/data/a.parquet: {os.strerror(number)}", "stage tags")
    assert found.args[2]


@pytest.mark.parametrize("number", OF_A_ROW, ids=lambda number: errno.errorcode[number])
def test_other_numbers_are_not(number: int) -> None:
    assert of_the_machine(OSError(number, os.strerror(number)), "here") is None


@pytest.mark.parametrize("said", OF_A_GPU)
def test_a_card_that_is_full_or_gone_is_the_machines(said: str) -> None:
    found = of_the_machine(OF_A_GPU[said](said), "here")
    assert found is not None
    assert found.args[0].endswith(said.partition("\n")[0])
    assert "device: cpu" in found.args[2]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ],
    ids=str,
)
def test_what_the_numbers_of_a_row_cause_is_not(error: Exception) -> None:
    assert of_the_machine(error, "here") is None


def test_numpy_on_a_full_disk_is() -> None:
    """Its error has no number. /dev/full is always full."""
    with pytest.raises(OSError) as caught:
        np.zeros(1 << 20).tofile("/dev/full")
    assert caught.value.errno is None
    found = of_the_machine(caught.value, "here")
    assert found is not None
    assert "No space left on device" in found.args[0]


def test_what_an_error_was_made_of_counts() -> None:
    cause = ValueError("the picture cannot be read")
    cause.__cause__ = MemoryError()
    found = of_the_machine(cause, "here")
    assert found is not None
    assert found.args[0] == "the process ran out of memory"
    assert of_the_machine(found, "elsewhere") is found
