# Two targets: cpu, the default, and gpu. The base can be replaced, by a digest or a mirror: --build-arg PYTHON_IMAGE=...
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY --chmod=755 deploy/image/install /usr/local/bin/install-hashed
# Without pip: what runs needs none.
RUN python3 -m venv --without-pip /opt/venv

# Behind a proxy or with a private index: build secrets ca_bundle and pip_conf (see docker-compose.yml); no layer keeps them.
FROM build AS packages-cpu
COPY deploy/image/cpu.txt .
RUN --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf --mount=type=cache,target=/root/.cache/pip \
    PIP_PYTHON=/opt/venv/bin/python install-hashed cpu.txt
COPY --chmod=755 deploy/image/prune /usr/local/bin/prune
RUN prune /opt/venv/lib/python3*/site-packages

FROM build AS packages-gpu
COPY deploy/image/gpu.txt .
RUN --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf --mount=type=cache,target=/root/.cache/pip \
    PIP_PYTHON=/opt/venv/bin/python install-hashed gpu.txt

# The service, without what it needs: a change of its code changes this and one small layer of the image.
FROM build AS code
COPY deploy/image/build.txt .
RUN --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf --mount=type=cache,target=/root/.cache/pip \
    PIP_TARGET=/opt/build install-hashed build.txt
COPY pyproject.toml README.md ./
COPY service service
RUN PYTHONPATH=/opt/build pip install --quiet --root-user-action ignore --no-index --no-deps --no-build-isolation \
    --target /opt/service .

FROM ${PYTHON_IMAGE} AS runtime
RUN groupadd --system --gid 10001 vae && useradd --system --uid 10001 --gid vae --no-create-home vae
COPY --link --chmod=755 deploy/image/healthcheck /usr/local/bin/healthcheck
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/service \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    VAE_HOST=0.0.0.0 \
    VAE_MODELS_DIR=/models
# Numbers, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --start-interval=500ms --retries=3 CMD ["healthcheck"]
CMD ["python", "-m", "service"]
ARG PYTHON_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vae-service" \
      org.opencontainers.image.description="A REST inference service for variational autoencoders." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"

FROM runtime AS gpu
# Without CUDA this image does not start. The other two are for NVIDIA's container toolkit.
ENV VAE_PROVIDER=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --link --from=packages-gpu /opt/venv /opt/venv
COPY --link models /models
COPY --link --from=code /opt/service /opt/service

FROM runtime AS cpu
COPY --link --from=packages-cpu /opt/venv /opt/venv
COPY --link models /models
COPY --link --from=code /opt/service /opt/service
