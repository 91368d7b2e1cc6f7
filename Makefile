# What there is to do with this repository: `make help`.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
ARGS ?=

.PHONY: run
run: build envoy ## Run weir with Envoy in front (ARGS="…" go to `weir up`)
	@exec bin/weir up $(ARGS)

.PHONY: build
build: go ## Build bin/weir
	@CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/weir ./cmd/weir

.PHONY: test
test: go envoy redis sdks chromium ## Prove it all: vet, unit and end-to-end tests, with the race detector (ARGS="…" go to `go test`)
	@scripts/test.sh $(ARGS)

.PHONY: lint
lint: go ## Check style and layering with golangci-lint
	@scripts/lint.sh run

.PHONY: deploy-test
deploy-test: go envoy redis ## Look at the files of deployments as the programs that read them do
	@scripts/deploy-test.sh

.PHONY: compose-test
compose-test: go ## Run docker-compose.yml on a Docker of its own, and disturb it (root on Debian)
	@deploy/compose/test/run --must

.PHONY: bench
bench: go envoy redis ## Measure what weir adds to a request, and what limits cost (ARGS="…" go to the benchmark)
	@go run ./bench $(ARGS)
	@go test -run "^$$" -bench Above -benchtime 20x ./extproc
	@go test -run "^$$" -bench . -benchtime 2s ./ratelimit/memstore ./ratelimit/redisstore

.PHONY: fmt
fmt: go ## Format all Go code
	@scripts/lint.sh fmt

.PHONY: proto
proto: go ## Generate the Go code of proto/ and docs/configuration.md again
	@cd tools && go run ./protogen ../proto ../docs/configuration.md

.PHONY: monitoring
monitoring: go ## Generate the Grafana dashboards and Prometheus rules again
	@go run -C deploy/monitoring .

.PHONY: webfiles
webfiles: ## Fetch what web pages have of others again, at the pinned versions, by npm
	@scripts/webdocs.sh
	@scripts/dashboard.sh

.PHONY: envoy
envoy: ## Make sure there is an Envoy: $$ENVOY, on PATH, or fetched once into the cache
	@scripts/envoy.sh

.PHONY: clean
clean: ## Remove what was built and installed in this folder
	@rm -rf bin .tools e2e/sdk/node/node_modules

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { gsub(/\$$\$$/, "$$", $$2); printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Helpers of the above.
.PHONY: go redis sdks chromium
go:
	@scripts/go.sh
redis:
	@scripts/redis.sh
chromium:
	@scripts/chromium.sh
sdks: go
	@scripts/sdks.sh
