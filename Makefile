# Everything there is to do with gantryd's sources. `make help` lists it; CI calls nothing else.

GO       ?= go
FUZZTIME ?= 10s
BENCH    ?= .
SIM      ?= 10,100,1000

# The nearest tag names the version; before the first one, or without git, Go's own information does.
# git refuses a checkout that belongs to somebody else, and go then refuses to build: not worth failing for.
VERSION  := $(shell git describe --tags --dirty 2>/dev/null)
BUILDVCS := $(if $(shell git rev-parse HEAD 2>/dev/null),auto,false)
LDFLAGS  := -s -w $(if $(VERSION),-X github.com/gantryd/gantryd/internal/version.stamped=$(VERSION))

# The linter has a module of its own, so that its dependencies are nobody else's. It is built once
# for each version of it and of Go.
LINT := .cache/golangci-lint-$(shell $(GO) env GOVERSION)

.DEFAULT_GOAL := help
.PHONY: help build test soak sim fleet lint fmt fuzz bench cover demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## build bin/gantryd and bin/gantry, static, with the version of the checkout
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(BUILDVCS) -ldflags '$(LDFLAGS)' -o bin/ ./cmd/gantryd ./cmd/gantry

test: ## run every test with the race detector, the quick ones first; needs Docker Engine, and installs it where it may
	scripts/ensure-docker
	scripts/test

soak: ## wear the proxy out for some minutes: 10 GB, a million connections, 1,000 switches, crowds, faults
	GANTRYD_SOAK=full $(GO) test -v -count=1 -timeout=40m ./internal/proxytest

sim: ## roll simulated fleets of SIM (10,100,1000) hosts out around a real etcd, and print what it costs
	GANTRYD_SIM=$(SIM) $(GO) test -v -count=1 -timeout=60m -run Table ./internal/simtest

fleet: ## kill real daemons before and after every write and every engine call, and run whole fleets under traffic
	scripts/ensure-docker
	GANTRYD_FAILPOINTS=all $(GO) test -v -count=1 -timeout=60m -run 'Failpoint|Fleet' ./internal/fleettest

lint: $(LINT) ## check the style of the sources
	GOFLAGS='$(GOFLAGS) -buildvcs=false' $(LINT) run --allow-serial-runners ./...

fmt: $(LINT) ## format the sources
	$(LINT) fmt ./...

fuzz: ## fuzz every fuzz target for FUZZTIME (10s)
	scripts/fuzz $(FUZZTIME)

bench: ## run the benchmarks that match BENCH (all)
	scripts/bench '$(BENCH)'

cover: ## measure what the tests cover, into coverage.out
	scripts/ensure-docker
	scripts/test -coverprofile=coverage.out -coverpkg=./pkg/...,./internal/...
	$(GO) tool cover -func=coverage.out | tail -n 1

demo: build ## show a rollout on this machine that loses no request
	scripts/ensure-docker
	scripts/demo

clean: ## remove what was built
	rm -rf bin .cache coverage.out

$(LINT): tools/lint/go.mod tools/lint/go.sum
	$(GO) -C tools/lint build -trimpath -buildvcs=false -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
