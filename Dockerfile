# A worker of a Dask cluster, or the command line: docker build -t pairloom . && docker run pairloom pairloom doctor
# It computes on the CPU, and on NVIDIA GPUs after `docker run --gpus all`: torch's ordinary build brings CUDA with it.
FROM python:3.12-slim

# An image without CUDA is 4 GB smaller: --build-arg PIP_EXTRA_INDEX_URL=URL, PyTorch's index of builds for the CPU.
ARG PIP_EXTRA_INDEX_URL
RUN useradd --create-home pairloom && mkdir /data && chown pairloom /data
WORKDIR /opt/pairloom
COPY . .
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt '.[all]' \
    && /opt/venv/bin/pairloom setup detectron2
ENV PATH=/opt/venv/bin:$PATH DASK_DISTRIBUTED__WORKER__DAEMON=False
USER pairloom
WORKDIR /data
# The scheduler's address follows: docker run -v /shared:/data pairloom dask worker tcp://host:8786 --nthreads 1
CMD ["pairloom", "--help"]
