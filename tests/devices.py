"""Where tests run that any device must pass: the CPU, and a GPU on a machine that has one."""

import pytest
import torch

CUDA = torch.cuda.is_available()
DEVICES = ["cpu", *(["cuda"] if CUDA else [])]
gpu = pytest.mark.skipif(not CUDA, reason="no CUDA here")
