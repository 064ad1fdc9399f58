# Set-up, checks, tests and packages of Varve. `make` lists the targets.

# Recipes use paths relative to this folder only, so the checkout may lie anywhere.
unexport PYTHONPATH PYTHONHOME
PY := .venv/bin/python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Runs one of the set-up commands with Python 3.11: the one named by PYTHON=..., else the first
# on PATH that is one, else one that uv knows.
define SETUP
@is311='import sys; sys.exit(sys.version_info[:2] != (3, 11))'; \
for python in "$(PYTHON)" python3.11 python3 python "$$(uv python find --system 3.11 2>/dev/null)"; do \
  if [ -n "$$python" ] && "$$python" -c "$$is311" 2>/dev/null; then \
    PYTHONPATH=pipelines exec "$$python" -m varve.setup $(1); \
  fi; \
done; \
echo 'Set-up stopped. Varve needs Python 3.11 and none is on PATH: install it (Debian 12: python3.11-venv;' \
  'else `uv python install 3.11` or pyenv), or name it with PYTHON=/path/to/python3.11.' >&2; exit 1
endef

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Start here

.PHONY: setup
setup: ## Environment, packages and jars, in .venv; again in seconds when complete
	$(call SETUP,install)

.PHONY: demo
demo: setup ## This machine's metrics from Kafka to a chart; FOR=120 ends it after 120 seconds
	$(call SETUP,preflight)
	@.venv/bin/varve up --demo $(if $(FOR),--for $(FOR))

.PHONY: airflow-setup airflow
airflow-setup: ## Airflow in an environment of its own, .venv-airflow
	$(call SETUP,airflow)

airflow: setup airflow-setup ## Airflow on the home of the demo; HOME_DIR=.varve PORT=8080
	@.venv-airflow/bin/python airflow/standalone.py --home $(or $(HOME_DIR),.varve) --port $(or $(PORT),8080)

.PHONY: notebook
notebook: ## The notebooks in JupyterLab, on what `make demo` runs; URL=http://host:9690 for another, ARGS=--allow-root
	$(call SETUP,install --notebook)
	VARVE_URL=$(or $(URL),http://127.0.0.1:9690) $(PY) -m jupyter lab notebooks $(ARGS)

##@ Work on it

.PHONY: setup-dev
setup-dev: ## The same as setup, with what checks and tests need
	$(call SETUP,install --dev)

.PHONY: check
check: setup-dev ## Lint, format, types, import layers
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports

.PHONY: test
test: setup-dev ## The whole suite, two tests at a time; ARGS="tests/unit -k name" for a part
	$(PY) -m pytest -n 2 --dist loadscope $(ARGS)

.PHONY: test-slow
test-slow: setup-dev ## What takes minutes: a whole cluster from dist/, ingest killed at every point
	$(PY) -m pytest -m slow $(ARGS)

.PHONY: test-airflow
test-airflow: setup-dev airflow-setup ## The DAGs, read and run by the Airflow of its lock file, on real tables
	$(PY) -m pytest -m airflow tests/dags $(ARGS)

.PHONY: format
format: setup-dev ## Format the code, fix what ruff can fix
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

.PHONY: functions
functions: setup-dev ## Write docs and completion anew from the table of PromQL functions
	PYTHONPATH=pipelines:. $(PY) tests/unit/promql/function_documents.py

.PHONY: dist
dist: setup ## For a cluster, in dist/: wheel, executor environment, jobs, jars
	$(call SETUP,pack)

.PHONY: lock
lock: setup-dev ## Write lock files and jar sums anew from pyproject.toml and conf/ivy-*.xml; UPGRADE=1
	$(call SETUP,lock $(if $(UPGRADE),--upgrade))

.PHONY: clean
clean: ## Remove the environment and everything built; data in .varve stays (varve reset)
	rm -rf .venv .venv-airflow .venv-delta build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find pipelines jobs tests -name __pycache__ -prune -exec rm -rf {} +

##@ Measure it

# The dataset of every performance claim, its generator kept beside the checkout.
SHARED ?= ../shared
DATA := build/bench
TOOL = PYTHONPATH=pipelines:. $(PY) tests/benchmarks

$(DATA)/samples.parquet:
	@test -f $(SHARED)/bench/dataset.py || { echo \
	  'varve: the benchmark dataset is made by $(SHARED)/bench/dataset.py, which is not there: name its folder with SHARED=...' >&2; exit 1; }
	$(PY) $(SHARED)/bench/dataset.py --out $(DATA) --end now

.PHONY: bench-client
bench-client: setup-dev ## The Python client to Kafka, samples/s and CPU a sample, JSON and Arrow
	$(TOOL)/bench_client.py $(ARGS)

.PHONY: bench-gateway bench-ingest bench-rollup bench-promql bench-first-query bench-log bench-storage
bench-gateway: setup-dev $(DATA)/samples.parquet ## Remote write to stored samples, samples a CPU second; ARGS="--version 2", ARGS="--protocols text,statsd"
	$(TOOL)/bench_gateway.py --data $(DATA) $(ARGS)
.PHONY: bench-scrape
bench-scrape: setup-dev ## 500 targets every 15 s: CPU and missed intervals; ARGS="--takeover": how soon another instance goes on
	$(TOOL)/bench_scrape.py $(ARGS)
.PHONY: bench-gateway-load
bench-gateway-load: setup-dev ## A part of: series, latency, freshness, storm, connections; PART=storm ARGS="--seconds 60"
	$(TOOL)/bench_gateway_load.py $(PART) $(ARGS)
bench-ingest: setup-dev $(DATA)/samples.parquet ## Kafka to samples, samples a CPU second; ARGS="--format object"
	$(TOOL)/bench_ingest.py --data $(DATA) $(ARGS)
bench-rollup: setup-dev $(DATA)/samples.parquet ## Samples to all tiers, samples a CPU second
	$(TOOL)/bench_rollup.py --data $(DATA) $(ARGS)
bench-promql: setup-dev $(DATA)/samples.parquet ## Queries from memory, beside the peers' figures
	$(TOOL)/bench_promql.py --data $(DATA) --shared $(SHARED) $(ARGS)
bench-first-query: setup-dev ## The first answer after a start of the query service
	$(TOOL)/bench_first_query.py $(ARGS)
bench-log: setup-dev ## What a commit costs as the log grows to 43,000
	$(TOOL)/bench_log.py $(ARGS)
bench-storage: setup-dev $(DATA)/samples.parquet ## Bytes a sample, hot and compacted, and other ways to write them
	$(TOOL)/bench_storage.py --data $(DATA) $(ARGS)
.PHONY: bench-late
bench-late: setup-dev ## What late samples cost: files of many hours, time to read one; ARGS="--days 2"
	$(TOOL)/bench_late.py $(ARGS)

.PHONY: conformance-rules
conformance-rules: setup-dev ## The score of rules and templates on shared/alerttest
	PYTHONPATH=pipelines $(PY) $(SHARED)/alerttest/run.py evaluation templates \
	  --adapter varve.rules.conformance:Adapter $(ARGS)
	$(PY) $(SHARED)/alerttest/run.py checks --command '$(CURDIR)/.venv/bin/varve rules check' $(ARGS)
	$(PY) $(SHARED)/alerttest/run.py rules --command '$(CURDIR)/.venv/bin/varve rules test' $(ARGS)

.PHONY: bench-query
bench-query: setup-dev $(DATA)/samples.parquet ## Queries over tables on disk: samples, then 90 days of rollups
	$(TOOL)/bench_query.py --data $(DATA) --shared $(SHARED) $(ARGS)
.PHONY: bench-query-load bench-cancel bench-start soak-query
bench-query-load: setup-dev $(DATA)/samples.parquet ## Queries of 1, 8 and 32 clients over HTTP; ARGS="--processes 2", ARGS="--victoria PATH"
	$(TOOL)/bench_query_load.py --data $(DATA) --shared $(SHARED) $(ARGS)
bench-cancel: setup-dev $(DATA)/samples.parquet ## How soon requests of every kind end at a deadline, or when told to
	$(TOOL)/bench_cancel.py --data $(DATA) $(ARGS)
bench-start: setup-dev ## Ready over 100,000 files and a million series, and after kill -9; ARGS="--s3-ms 30"
	$(TOOL)/bench_start.py $(ARGS)
soak-query: setup-dev ## Hostile clients beside small queries, ten minutes; ARGS="--minutes 3"
	$(TOOL)/soak_query.py $(ARGS)

.PHONY: conformance
conformance: setup-dev ## The score of the PromQL engine on Prometheus' own scripts
	PYTHONPATH=pipelines $(PY) $(SHARED)/promqltest/run.py --adapter varve.promql.conformance:Adapter \
	  $(SHARED)/promqltest/testdata $(SHARED)/promqltest/compliance.test $(ARGS)

.PHONY: conformance-gateway
conformance-gateway: setup-dev ## The score of the gateway on the judge of collection
	PYTHONPATH=pipelines $(PY) $(SHARED)/wiretest/run.py --adapter varve.gateway.conformance:Adapter \
	  $(ARGS)
.PHONY: conformance-notify live-notify bench-alert-storm diff-notify
bench-alert-storm: setup-dev ## 100,000 alerts in 1,000 groups, here and in Alertmanager; ARGS="--alerts 10000"
	$(TOOL)/storm_notify.py --beside $(ARGS)
conformance-notify: setup-dev ## The score of the notifier on scenarios, templates and configurations
	PYTHONPATH=pipelines $(PY) $(SHARED)/alerttest/run.py notification templates \
	  --adapter varve.notify.conformance:Adapter $(ARGS)
	PYTHONPATH=$(CURDIR)/pipelines $(PY) $(SHARED)/alerttest/run.py configs \
	  --command '$(CURDIR)/$(PY) -m varve.cli notify check' $(ARGS)
diff-notify: setup-dev ## The same requests and alerts to it and to Alertmanager, in real time; ARGS="--only grouping"
	$(TOOL)/diff_notify.py $(ARGS)
live-notify: setup-dev ## Its scenarios over HTTP, 20 times as fast as real time; ARGS="--only grouping"
	$(TOOL)/live_notify.py --shared $(SHARED) $(ARGS)

.PHONY: diff-promql diff-prometheus diff-http diff-import diff-promtool diff-tiers diff-steps diff-commits fuzz-promql
diff-promql: setup-dev ## Random queries against an obvious evaluator; ARGS="--queries 100000 --seed N"
	$(TOOL)/diff_promql.py $(ARGS)
diff-prometheus: setup-dev ## Random queries against the installed Prometheus; ARGS="--queries 20000 --seed N"
	$(TOOL)/diff_prometheus.py $(ARGS)
diff-http: setup-dev ## Requests as clients make them, answered as the installed Prometheus does; ARGS="--requests 5000"
	$(TOOL)/diff_http.py $(ARGS)
diff-import: setup-dev ## Random queries on 30 imported days, answered as by the Prometheus whose blocks they are; ARGS="--queries 5000"
	$(TOOL)/diff_import.py $(ARGS)
diff-promtool: setup-dev ## Random rules and tests of them against the installed promtool; ARGS="--files 100"
	$(TOOL)/diff_promtool.py $(ARGS)
diff-tiers: setup-dev ## Random queries over rollups against the samples; ARGS="--queries 10000 --far"
	$(TOOL)/diff_tiers.py $(ARGS)
diff-steps: setup-dev ## Panels refreshed while tables change, with kept steps and without; ARGS="--interleavings 1000"
	$(TOOL)/diff_steps.py $(ARGS)
diff-commits: setup-dev ## A service asked while every job commits each second, against an oracle; ARGS="--queries 1000 --seed N"
	$(TOOL)/diff_commits.py $(ARGS)
fuzz-promql: setup-dev ## Texts meant to break the PromQL engine; ARGS="--minutes 10 --seed N"
	$(TOOL)/fuzz_promql.py --shared $(SHARED) $(ARGS)

.PHONY: bench-anomaly
bench-anomaly: setup-dev ## Injected incidents by each baseline: precision, recall, delay; ARGS="--copies 10"
	$(TOOL)/bench_anomaly.py $(ARGS)

.PHONY: live-anomaly
live-anomaly: setup-dev ## Incidents of every kind through a whole `varve up`: an episode each, and how soon; ARGS="--probes 1"
	$(TOOL)/live_anomaly.py $(ARGS)

.PHONY: bench-forecast
bench-forecast: setup-dev ## Forecasts of 1,000 series on two cores: time, errors, coverage; ARGS="--series 300"
	$(TOOL)/bench_forecast.py $(ARGS)

.PHONY: bench-labels bench-churn
bench-labels: setup-dev ## The index of a million series: memory, matchers, what churn costs
	$(TOOL)/bench_labels.py $(ARGS)
bench-churn: setup-dev ## What three million series that have ended cost dashboards; ARGS="--live 100000 --each 10000"
	$(TOOL)/bench_churn.py $(ARGS)

.PHONY: bench-trimming
bench-trimming: setup-dev ## A year of series that come and go: what is left, with and without trimming
	$(TOOL)/bench_trimming.py $(ARGS)

.PHONY: bench-alerting
bench-alerting: setup-dev ## From a sample to the message, through everything; ARGS="--interval 15 --group-wait 30 --aim 60"
	$(TOOL)/bench_alerting.py $(ARGS)

.PHONY: bench-rules
bench-rules: setup-dev ## A round of 1,000 rules over 10,000 series in memory, CPU seconds
	$(TOOL)/bench_rules.py $(ARGS)

.PHONY: bench-backtest
bench-backtest: setup-dev ## A day of 200 rules again: how many times faster than it was; ARGS="--hours 6 --metrics 100"
	$(TOOL)/bench_backtest.py $(ARGS)

.PHONY: bench-rules-head
bench-rules-head: setup-dev ## What the head of rules holds and costs, beside that of all series
	$(TOOL)/bench_rules_head.py $(ARGS)

.PHONY: bench-series
bench-series: setup-dev ## What 1 M and 10 M known series cost: start, memory, look-ups, churn, counting
	$(TOOL)/bench_series.py $(ARGS)

.PHONY: bench-backlog bench-storm bench-new-series
bench-backlog: setup-dev ## Critical samples and memory while 50 M bulk samples wait
	$(TOOL)/backlog.py $(ARGS)
bench-storm: setup-dev ## A hundred times the samples, then a million new series: lag, memory, limits
	$(TOOL)/storm.py $(ARGS)

bench-new-series: setup-dev ## Three million new series in one batch: memory of driver and workers
	$(TOOL)/new_series.py $(ARGS)

.PHONY: bench-pipeline bench-lateness bench-visibility
bench-pipeline: setup-dev $(DATA)/samples.parquet ## Kafka to samples to all four tiers, in one Spark JVM
	$(TOOL)/bench_pipeline.py --data $(DATA) $(ARGS)
bench-lateness: setup-dev ## 20,000 samples/s, 5 % up to ten days late, then every row recomputed
	$(TOOL)/bench_live.py --rate 20000 --late 0.05 --history 300 $(ARGS)
bench-visibility: setup-dev ## 100,000 samples/s: how soon a window that has ended can be read
	$(TOOL)/bench_live.py --rate 100000 --series 500000 --minutes 6 $(ARGS)

.PHONY: race
race: setup-dev ## Everything that changes tables, racing, against an oracle; ARGS="--rounds 300 --runs 3 --seed N"
	$(TOOL)/race.py $(ARGS)

.PHONY: soak soak-week soak-year soak-live
soak: soak-week soak-live ## A simulated week, then an hour of faults: nothing grows, nothing needs a hand
soak-week: setup-dev ## Seven days of tables under a simulated clock; ARGS="--days 3" (needs cc)
	$(TOOL)/soak_week.py $(ARGS)
soak-year: setup-dev ## A year over three roots, asked after every job, against an oracle; ARGS="--days 100"
	$(TOOL)/soak_year.py $(ARGS)
soak-live: setup-dev ## `varve up` with a fault every few minutes; ARGS="--minutes 10 --only kill"
	$(TOOL)/soak_live.py $(ARGS)

.PHONY: chaos-s3
chaos-s3: setup-dev ## Five minutes of upkeep on an S3 that fails, against an oracle; ARGS="--minutes 1"
	$(TOOL)/chaos_s3.py $(ARGS)

.PHONY: soak-alerting
soak-alerting: setup-dev ## Evaluators and notifiers killed and cut from each other, 500 alerts accounted for; ARGS="--minutes 5"
	$(TOOL)/soak_alerting.py $(ARGS)

.PHONY: chaos-gateway
chaos-gateway: setup-dev ## 20 kills of the gateway among 2 M samples, Kafka away, disks full and slow; needs root
	$(TOOL)/chaos_gateway.py $(ARGS)
.PHONY: chaos-collect
chaos-collect: setup-dev ## 20 kills of gateway and scraping while OTLP, Influx, JSON, Pushgateway, StatsD and targets send
	$(TOOL)/chaos_collect.py $(ARGS)

.PHONY: fuzz-gateway fuzz-collect
fuzz-gateway: setup-dev ## Damaged requests of remote write: any bytes are samples or a refusal; ARGS="--minutes 10"
	$(TOOL)/fuzz_gateway.py $(ARGS)
fuzz-collect: setup-dev ## Damaged bodies of every other protocol, and blocks; ARGS="--minutes 10 --only otlp,text"
	$(TOOL)/fuzz_decoders.py $(ARGS)

.PHONY: fuzz-ingest chaos-ingest chaos-rollup
fuzz-ingest: setup-dev ## Damaged messages: any bytes are samples or a reason; ARGS="--minutes 10"
	$(TOOL)/fuzz_ingest.py $(ARGS)
chaos-ingest: setup-dev ## Ingest killed at every point, every sample counted; ARGS="--seed N"
	$(TOOL)/chaos_ingest.py $(ARGS)
chaos-rollup: setup-dev ## Rollups killed at every point, every row recomputed
	$(TOOL)/chaos_rollup.py $(ARGS)
