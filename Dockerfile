# A worker of a Dask cluster, or the command line: docker build -t pairloom . && docker run pairloom pairloom doctor
# For CUDA, replace the next line with: FROM nvidia/cuda:13.0.0-runtime-ubuntu24.04, with python3.12, python3.12-venv and pip.
FROM python:3.12-slim

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
