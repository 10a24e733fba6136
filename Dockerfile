# syntax=docker/dockerfile:1
# Two stages: the first one builds the virtual environment from the lock file, the second one only runs it.
FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/trueport
COPY requirements/image.lock requirements/image.lock
RUN /opt/trueport/bin/pip install --require-hashes -r requirements/image.lock
COPY pyproject.toml README.md LICENSE ./
COPY trueport trueport
COPY deploy/triton deploy/triton
RUN /opt/trueport/bin/pip install --no-deps --no-build-isolation . \
 && /opt/trueport/bin/python -m compileall -q /opt/trueport/lib

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="TruePortAI" \
      org.opencontainers.image.description="A defensible AI gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin trueport \
 && install -d -o trueport -g trueport -m 0700 /data
COPY --from=build /opt/trueport /opt/trueport
ENV PATH=/opt/trueport/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TRUEPORT_DATA_DIR=/data \
    TRUEPORT_HOST=0.0.0.0 \
    TRUEPORT_PORT=8080
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
# SIGTERM drains: calls under way finish, the journal is shipped.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["trueport"]
CMD ["serve"]
