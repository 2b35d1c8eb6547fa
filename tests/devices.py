"""Where tests run that any device must pass: the CPU, and a GPU on a machine that has one."""

import torch

CUDA = torch.cuda.is_available()
DEVICES = ["cpu", *(["cuda"] if CUDA else [])]
