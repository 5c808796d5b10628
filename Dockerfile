# ocelot as PID 1 of a container. Build:   docker build -t ocelot .
# Run a supervise file:                    docker run -v $PWD/supervise.yaml:/etc/ocelot/supervise.yaml ocelot
# Run one program as its init:             docker run ocelot entry -- sleep 60
#
# The runtime brings its own interpreter and C library, so it also works in images that have none, or another one:
#   FROM alpine                            # or scratch
#   COPY --from=ocelot /usr/lib/ocelot /usr/lib/ocelot
#   ENTRYPOINT ["/usr/lib/ocelot/bin/ocelot"]
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      binutils ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY requirements-image.txt /src/
RUN python3 -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --no-compile --require-hashes -r /src/requirements-image.txt
COPY . /src
WORKDIR /src
RUN /venv/bin/python -m ocelot runtime build --no-cache --prefix /usr/lib/ocelot /usr/lib/ocelot

FROM ${BASE}
COPY --from=build /usr/lib/ocelot /usr/lib/ocelot
RUN ln -s ../lib/ocelot/bin/ocelot ../lib/ocelot/bin/ocelotctl /usr/bin/
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/ocelot"]
CMD ["supervise"]
