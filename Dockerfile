# syntax=docker/dockerfile:1

# One file, three images:
#
#   docker build --target operator --tag ghcr.io/finetune-operator/operator:0.1.0 .
#   docker build --target trainer  --tag ghcr.io/finetune-operator/trainer:0.1.0 .
#   docker build --target serving  --tag ghcr.io/finetune-operator/serving:0.1.0 .
#
# For GPUs give the index of PyTorch's CUDA wheels: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130
# For trainer and serving with TensorFlow Lite (0.8 GB): --build-arg EXTRA=tflite
# For releases pin the base by digest: --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:…
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# ---- Tools that only builds need.
FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    UV_NO_CACHE=1 \
    UV_COMPILE_BYTECODE=1 \
    UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/venv
RUN pip install uv==0.13.9 && uv venv /opt/venv
WORKDIR /src
COPY pyproject.toml ./

# ---- The project itself: one wheel, built once.
FROM build AS wheel
COPY LICENSE README.md ./
COPY api/ api/
COPY operator/ operator/
COPY storage/ storage/
COPY trainer/ trainer/
COPY serving/ serving/
COPY local/ local/
RUN uv build --wheel --out-dir /dist

# ---- What each image runs. Dependencies come first: they change less often than the code.
FROM build AS operator-packages
RUN uv pip install --requirements pyproject.toml --extra operator
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist uv pip install --no-deps /dist/*.whl

FROM build AS torch
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN uv pip install --index-url "${TORCH_INDEX}" "${TORCH}"

FROM torch AS trainer-packages
ARG EXTRA=
RUN uv pip install --requirements pyproject.toml --extra trainer --extra qlora --extra postprocess --extra deepspeed --extra ray ${EXTRA:+--extra ${EXTRA}}
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist uv pip install --no-deps /dist/*.whl

FROM torch AS serving-packages
ARG EXTRA=
RUN uv pip install --requirements pyproject.toml --extra serving --extra qlora --extra postprocess ${EXTRA:+--extra ${EXTRA}}
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist uv pip install --no-deps /dist/*.whl

# ---- What all three images share: Python, one user without a name to log in by, and nothing to build with.
FROM ${PYTHON_IMAGE} AS runtime
RUN groupadd --gid 65532 finetune \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin finetune
ENV PATH=/opt/venv/bin:${PATH} \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.source="https://github.com/finetune-operator/finetune-operator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="The finetune-operator authors" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /
USER 65532:65532

FROM runtime AS trainer
LABEL org.opencontainers.image.title="finetune-trainer" \
      org.opencontainers.image.description="Trains in the pods of a FineTuneJob"
COPY --from=trainer-packages /opt/venv /opt/venv
EXPOSE 9400
ENTRYPOINT ["finetune-trainer"]
CMD ["--config", "/etc/finetune/job.json"]

FROM runtime AS serving
LABEL org.opencontainers.image.title="finetune-serving" \
      org.opencontainers.image.description="Serves the model of a ModelDeployment"
COPY --from=serving-packages /opt/venv /opt/venv
EXPOSE 8080
ENTRYPOINT ["finetune-serving"]

FROM runtime AS operator
LABEL org.opencontainers.image.title="finetune-operator" \
      org.opencontainers.image.description="The control plane"
COPY --from=operator-packages /opt/venv /opt/venv
EXPOSE 8080 8081 8443
ENTRYPOINT ["finetune-operator"]
CMD ["run"]
