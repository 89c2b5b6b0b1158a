# An image that rebuilds a subset.
#
# In a checkout of coco-diy: docker build -f conf/schedule/docker.Dockerfile -t coco-diy .
# Every night, by the timer of the machine or as a CronJob of Kubernetes (schedule, concurrencyPolicy: Forbid):
#   docker run --rm --user "$(id -u)" --init --stop-timeout 90 -v /srv/bikes:/data coco-diy build nightly.yaml --quiet
FROM python:3.12-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY pipeline pipeline
COPY conf conf
RUN pip install --no-cache-dir --constraint constraints.txt ".[sftp]"

# Config, source, target and workdir are below it; what this image built is noted there, for its home is gone with it.
WORKDIR /data
VOLUME /data
ENV COCO_DIY_STATE=/data/state XDG_CACHE_HOME=/data/cache
# Nobody needs root to read and write files. --user with your own number lets the files be yours.
RUN useradd --uid 10001 --no-create-home bikes
USER 10001
ENTRYPOINT ["coco-diy"]
CMD ["--help"]
