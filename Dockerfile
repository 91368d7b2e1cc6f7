# weir's image: one static program, a certificate bundle, no shell, no root.
#
#	docker build -t weir:local --build-arg VERSION="$(git describe --always --dirty)" .

ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=gcr.io/distroless/static-debian12:nonroot
# Where the binary comes from: "build" compiles it here, "prebuilt" takes bin/weir
# of the working tree, which `make build` has made.
ARG BINARY=build

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
# Dependencies first: they change less often than the code.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=unknown
ARG TARGETOS TARGETARCH
# The same source, toolchain and VERSION give the same bytes.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} GOFLAGS=-buildvcs=false \
    go build -trimpath -ldflags "-s -w -buildid= -X main.version=${VERSION}" -o /out/weir ./cmd/weir

FROM scratch AS prebuilt
COPY bin/weir /out/weir

FROM ${BINARY} AS binary

FROM ${BASE_IMAGE}
COPY --from=binary /out/weir /usr/local/bin/weir
# Folders that volumes take over, with the owner that these then have: the sockets,
# and the usage ledger.
WORKDIR /run/weir
WORKDIR /var/lib/weir
WORKDIR /etc/weir
ENV CONFIG_FILE=/etc/weir/weir.yaml
USER 65532:65532
# The folder of the sockets is named, so that a probe need not read the configuration.
# Only whether it runs: a container that is not healthy is restarted by some, which
# brings no upstream back.
HEALTHCHECK --interval=5s --timeout=6s --start-period=30s --start-interval=1s --retries=3 \
    CMD ["/usr/local/bin/weir", "health", "--live", "--run-dir", "/run/weir"]
ENTRYPOINT ["/usr/local/bin/weir"]
CMD ["serve"]
