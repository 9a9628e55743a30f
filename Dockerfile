# cgwatch as a container. It looks at the host, so it needs the host's trees:
#
#   docker build -t cgwatch .
#   docker run -d --name cgwatch --privileged --pid=host --cgroupns=host --network=host \
#     -v /sys/fs/cgroup:/sys/fs/cgroup:ro -v /var/run/docker.sock:/var/run/docker.sock:ro cgwatch
#
# Without --pid=host and --cgroupns=host, mount the host's trees under /host and name them:
#   -v /:/host:ro,rslave  ...  cgwatch run --cgroup-root /host/sys/fs/cgroup --proc-root /host/proc
ARG PYTHON=3.13
FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY cgwatch cgwatch
RUN python -m venv /opt/cgwatch && /opt/cgwatch/bin/pip install --no-cache-dir --disable-pip-version-check '.[all]'

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="cgwatch" \
      org.opencontainers.image.description="Node agent for container resources" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/cgwatch /opt/cgwatch
COPY config/cgwatch.yaml /etc/cgwatch/cgwatch.yaml
ENV PATH=/opt/cgwatch/bin:$PATH PYTHONDONTWRITEBYTECODE=1
EXPOSE 9753
# The network is the host's or the pod's, so every address of it is meant; give --listen to narrow it.
ENTRYPOINT ["cgwatch"]
CMD ["run", "--listen", ":9753"]
HEALTHCHECK --interval=30s --timeout=3s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9753/-/healthy', timeout=2)"]
