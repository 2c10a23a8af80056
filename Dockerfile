# The image of opend-sidecar: the sidecar, its commands, and the paper OpenD (`sandbox`). docs/containers.md says how to run it.
#   docker build -t opend-sidecar .
# Behind a mirror: --build-arg PYTHON_IMAGE=mirror.example/python:3.13-slim-trixie --build-arg PIP_INDEX_URL=https://mirror.example/simple
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
WORKDIR /src
RUN python3 -m venv /opt/opend-sidecar
COPY pyproject.toml ./
# Dependencies first: a change of the code does not fetch them again. Of futu-api only the message classes are loaded, so what
# it needs for the rest (pandas, numpy) stays out.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -c 'import tomllib; \
project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
wanted = project["dependencies"] + project["optional-dependencies"]["mcp"]; \
bare = [one for one in wanted if one.startswith("futu-api")]; \
open("bare.txt", "w").write("\n".join(bare)); \
open("whole.txt", "w").write("\n".join(one for one in wanted if one not in bare))' \
    && /opt/opend-sidecar/bin/pip install --disable-pip-version-check --requirement whole.txt \
    && /opt/opend-sidecar/bin/pip install --disable-pip-version-check --no-deps --requirement bare.txt
COPY README.md LICENSE ./
COPY sidecar sidecar
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/opend-sidecar/bin/pip install --disable-pip-version-check --no-deps . \
    && /opt/opend-sidecar/bin/pip uninstall --yes pip

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="opend-sidecar" \
      org.opencontainers.image.description="A reverse proxy in front of OpenD that gives every bot a key of its own" \
      org.opencontainers.image.licenses="Apache-2.0"
# SECURITY: an id in the image would be the same in every container, and a key bound to one machine would work in all of them.
# A zone in the image would be UTC for everybody: a key whose hours name no zone must not load rather than mean other hours.
# The state directory is made by whichever user runs it, inside a folder in which each user can make one.
RUN rm -f /etc/machine-id /var/lib/dbus/machine-id /etc/localtime /etc/timezone \
    && rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* \
    && install -d -m 0755 /etc/opend-sidecar /home/sidecar /home/sidecar/.config /home/sidecar/.config/futu /home/sidecar/.local \
    && install -d -m 1777 /home/sidecar/.local/state
COPY --from=build /opt/opend-sidecar /opt/opend-sidecar
COPY deploy/container/sidecar.yaml /etc/opend-sidecar/sidecar.yaml
ENV PATH=/opt/opend-sidecar/bin:$PATH HOME=/home/sidecar PYTHONUNBUFFERED=1
# Another user is given with `--user`: the one who owns keys.json.
USER 1000:1000
WORKDIR /home/sidecar
EXPOSE 11110 44444 22222 33333 38765 11180
# /healthz, never /readyz: that OpenD is away is no reason to start the sidecar again.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python3", "-I", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 11180, timeout=2); c.request('GET', '/healthz'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["opend-sidecar"]
CMD ["run", "--config", "/etc/opend-sidecar/sidecar.yaml"]
