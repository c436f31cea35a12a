# The base can be replaced from outside, by a digest or a mirror: --build-arg PYTHON_IMAGE=...
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python3 -m venv --without-pip /opt/venv
COPY pyproject.toml constraints.txt README.md ./
COPY service service
# Behind a proxy or with a private index: build secrets ca_bundle and pip_conf (see docker-compose.yml); no layer keeps them.
RUN --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf \
    if [ -s /run/secrets/ca_bundle ]; then export PIP_CERT=/run/secrets/ca_bundle; fi; \
    if [ -s /run/secrets/pip_conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip_conf; fi; \
    pip --python /opt/venv/bin/python install --no-cache-dir --constraint constraints.txt .

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --no-create-home vae
COPY --from=build /opt/venv /opt/venv
COPY models /models
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    VAE_HOST=0.0.0.0 \
    VAE_MODELS_DIR=/models
USER vae
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --start-interval=500ms --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('VAE_PORT', 8000)}/readyz\", timeout=2)"]
CMD ["python", "-m", "service"]
