# crdtdb as a small image that runs without root.
#
#   docker build -t crdtdb .
#   docker run -v crdtdb:/data -p 127.0.0.1:7460:7460 crdtdb serve --insecure
#
# On a base image of your own, with Python 3.11 or newer and its venv (scripts/base-image makes one):
#
#   docker build -t crdtdb --build-arg BASE_IMAGE=crdtdb-base:trixie .
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
# Where pip looks for packages, if it is not the public index.
ARG PIP_INDEX_URL
ARG PIP_TRUSTED_HOST
WORKDIR /src
RUN python3 -m venv /opt/crdtdb
COPY pyproject.toml README.md LICENSE ./
COPY crdtdb crdtdb
COPY server server
COPY client client
RUN /opt/crdtdb/bin/pip install --no-cache-dir . \
    && /opt/crdtdb/bin/pip uninstall --yes --quiet pip

FROM ${BASE_IMAGE}
COPY --from=build /opt/crdtdb /opt/crdtdb
# A volume takes over owner and mode of the directory it is mounted on.
RUN mkdir -m 0700 /data && chown 10001:10001 /data
ENV PATH=/opt/crdtdb/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CRDTDB_DATA_DIR=/data \
    CRDTDB_LISTEN=0.0.0.0:7460
USER 10001:10001
VOLUME /data
EXPOSE 7460
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s --retries=3 CMD ["python3", "-ISc", "\
import http.client, sys; \
server = http.client.HTTPConnection('127.0.0.1', 7460, timeout=3); \
server.request('GET', '/readyz'); \
sys.exit(server.getresponse().status != 200)"]
ENTRYPOINT ["crdtdb"]
CMD ["serve"]
