# crdtdb as a small non-root image.
#   docker build -t crdtdb .
#   docker build -t crdtdb --build-arg BASE_IMAGE=my-python-base .
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY crdtdb crdtdb
COPY server server
COPY client client
RUN python3 -m venv /opt/crdtdb && /opt/crdtdb/bin/pip install --no-cache-dir .

FROM ${BASE_IMAGE}
COPY --from=build /opt/crdtdb /opt/crdtdb
RUN mkdir -m 0700 /data && chown 10001:10001 /data
ENV PATH=/opt/crdtdb/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
VOLUME /data
EXPOSE 7460
ENTRYPOINT ["crdtdb"]
CMD ["serve", "--data-dir", "/data", "--listen", "0.0.0.0:7460", "--insecure"]
