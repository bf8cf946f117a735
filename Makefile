# Each target is a few calls of Go. The stages of `make test` all run, each prints its time beside its budget (2 cores), and the
# last lines count over all of them.

GO   ?= go
TOOL := $(GO) tool -modfile=tools/go.mod
OUT  := out

# The race detector needs a C compiler. Asked when a stage runs, because `deps` may install one.
RACE = $(shell command -v $${CC:-gcc} >/dev/null 2>&1 && echo -race)

# $(call stage,NAME,BUDGET IN SECONDS,COMMAND)
stage = @scripts/stage.sh $(1) $(2) $(3)
# $(call gotest,NAME): go test, each package a line, failures and skips shown again at the end.
gotest = $(TOOL) gotestsum --format pkgname --format-hide-empty-pkg --jsonfile $(OUT)/$(1).json --

UNIT = $$($(GO) list ./... | grep -v -e '/internal/sim$$' -e '/internal/sim/' -e '/internal/e2e$$' -e '/internal/e2e/')

.NOTPARALLEL:
.DEFAULT_GOAL := build
.PHONY: build demo test deps check unit sim sim-long fuzz e2e soak bench proto package summary clean

build: ## the static binary bin/dfs
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/dfs ./cmd/dfs

demo: build ## two members on loopback, until Ctrl-C
	bin/dfs demo

test: deps ## everything: lint, unit, simulator, fuzz, end to end
	@rm -rf $(OUT) && mkdir -p $(OUT)
	$(call stage,build+lint,180,$(MAKE) --no-print-directory build check)
	$(call stage,unit,360,$(MAKE) --no-print-directory unit)
	$(call stage,sim,120,$(MAKE) --no-print-directory sim)
	$(call stage,fuzz,60,$(MAKE) --no-print-directory fuzz)
	$(call stage,e2e,300,$(MAKE) --no-print-directory e2e)
	@$(MAKE) --no-print-directory summary

deps: ## what the tests need from Debian, if this is root
	@scripts/deps.sh

check: ## layering, house rules, vet and lint
	$(GO) vet ./...
	$(GO) test -count=1 ./internal/tidy
	$(TOOL) golangci-lint run

unit:
	@mkdir -p $(OUT)
	$(call gotest,unit) $(RACE) -timeout 6m $(UNIT)

sim: ## whole clusters, simulated, seeded: the members take turns, so that nothing races
	@mkdir -p $(OUT)
	DFS_SIM_TABLE='$(CURDIR)/$(OUT)/coverage.txt' $(call gotest,sim) -timeout 5m $$($(GO) list ./internal/sim/... | grep -v /scope$$)
	DFS_SIM_TABLE='$(CURDIR)/$(OUT)/scope.txt' $(call gotest,scope) -timeout 5m ./internal/sim/scope
	@cat $(OUT)/coverage.txt $(OUT)/scope.txt

sim-long: ## the same with many more seeds: SEEDS=n
	DFS_SIM=long SEEDS='$(SEEDS)' SCOPE=all $(GO) test -count=1 -v -timeout 12h ./internal/sim/...

fuzz: ## each fuzz target for a few seconds
	@GO='$(GO)' scripts/fuzz.sh

e2e: build ## stories over the static binary
	@mkdir -p $(OUT)
	DFS='$(CURDIR)/bin/dfs' $(call gotest,e2e) -count=1 -p 1 -timeout 10m ./internal/e2e/...

soak: build ## hours of load and faults on real daemons
	DFS='$(CURDIR)/bin/dfs' DFS_SOAK=1 $(GO) test -count=1 -v -timeout 72h -run '^TestSoak' ./internal/e2e/...

bench: build ## ours beside rsync; BENCH=row, PEERS=all
	DFS='$(CURDIR)/bin/dfs' DFS_BENCH=1 BENCH='$(BENCH)' PEERS='$(PEERS)' $(GO) test -count=1 -v -timeout 40m -run '^TestBench' ./internal/e2e/...

proto: ## Go code from the .proto files (needs protoc)
	@GO='$(GO)' scripts/proto.sh

package: build ## .deb and .rpm in out/
	@mkdir -p $(OUT)
	VERSION=$${VERSION:-0.0.0} ARCH=$$($(GO) env GOARCH) $(TOOL) nfpm package -f packaging/nfpm.yaml -p deb -t $(OUT)/
	VERSION=$${VERSION:-0.0.0} ARCH=$$($(GO) env GOARCH) $(TOOL) nfpm package -f packaging/nfpm.yaml -p rpm -t $(OUT)/

summary: # all stages that ran, in one count
	@[ ! -s $(OUT)/failed ] || { echo 'stages that failed:'; cat $(OUT)/failed; }
	@$(TOOL) gotestsum --format none --raw-command cat $(OUT)/*.json
	@[ ! -s $(OUT)/failed ]

clean:
	rm -rf bin $(OUT)
