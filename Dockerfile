# CPU:  docker build -t twc .
# CUDA: docker build -t twc --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
# Use:  docker run --rm -v "$PWD:/pictures" twc encode photo.png photo.twc
#       docker run --rm -i twc encode - - < photo.png > photo.twc
#       docker run --rm --gpus all ... for the CUDA build
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python -m venv /opt/twc
RUN /opt/twc/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" 'torch>=2.6,<2.14'
COPY pyproject.toml README.md LICENSE ./
COPY twcodec ./twcodec
RUN /opt/twc/bin/pip install --no-cache-dir .

FROM python:3.11-slim
COPY --from=build /opt/twc /opt/twc
ENV PATH=/opt/twc/bin:$PATH
RUN useradd --create-home --uid 1000 twc
USER twc
WORKDIR /pictures
ENTRYPOINT ["twc"]
CMD ["--help"]
