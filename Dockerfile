# CPU:  docker build -t twc .
# CUDA: docker build -t twc --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
# Use:  docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/pictures" twc encode photo.png photo.twc
#       docker run --rm -i twc encode - - < photo.png > photo.twc
#       docker run --rm --gpus all ... for the CUDA build
# benchmarks/dockerfile.py runs these steps without an engine. For x86-64: elsewhere CompressAI has no wheel, and the
# first stage needs g++.
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python -m venv /opt/twc
# First and alone, as in the Makefile: what is resolved later cannot pull other builds. CompressAI asks for torchvision.
RUN /opt/twc/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" 'torch>=2.6,<2.14' torchvision
COPY pyproject.toml README.md LICENSE ./
COPY twcodec ./twcodec
RUN /opt/twc/bin/pip install --no-cache-dir . && /opt/twc/bin/pip uninstall --yes pip

FROM python:3.11-slim-bookworm
COPY --from=build /opt/twc /opt/twc
ENV PATH=/opt/twc/bin:$PATH
RUN useradd --create-home --uid 1000 twc
USER twc
WORKDIR /pictures
ENTRYPOINT ["twc"]
CMD ["--help"]
