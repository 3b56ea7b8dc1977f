# Credits. `make help` lists what there is. Everything needs Python 3.11 or newer and make, nothing else:
# the first target that needs it makes .venv, and nothing is installed outside of it.

PYTHON ?= python3
STAGE ?=
REPAIR = $(if $(STAGE),--stage "$(STAGE)") $(if $(DRY_RUN),--dry-run) $(if $(YES),--yes) $(if $(JSON),--json)
VENV := .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help run up token clock test contract check security format deploy import balances units cost bench capacity scale verify redrive replay allocate void export erase mails dashboard reference screenshots sample mutants completeness clean

help:  ## list what there is
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY)  ## the whole story on this machine: emulator, stack, data, a turn of the month (CSV=mine.csv, EXIT=1)
	@$(RUN) -m infra.run $(if $(CSV),--csv "$(CSV)") $(if $(EXIT),--exit)

up: $(READY)  ## the stack on this machine without data; prints one line of JSON, stays until Ctrl-C
	@$(RUN) -m infra.local

token: $(READY)  ## a token for the running stack: USER_ID=42 (SCOPE="credits:read credits:use", SECONDS=3600)
	@$(RUN) -m infra.tokens $(if $(USER_ID),--user-id "$(USER_ID)") $(if $(SCOPE),--scope "$(SCOPE)") $(if $(SECONDS),--seconds "$(SECONDS)")

clock: $(READY)  ## move the running stack's clock: TO="next midnight", "next 1st", "+30 days" or an instant (ZONE=...)
	@$(RUN) -m infra.clock $(if $(TO),--to "$(TO)") $(if $(ZONE),--zone "$(ZONE)")

test: $(READY)  ## all tests (ARGS="-k name tests/unit" picks some)
	@$(RUN) -m pytest -n auto --dist loadfile $(ARGS)

contract: $(READY)  ## thousands of made-up requests of each role against the contract (EXAMPLES=50 for each route)
	@CONTRACT_EXAMPLES=$(or $(EXAMPLES),50) $(RUN) -m pytest -s tests/stack/test_contract.py

check: $(READY)  ## format, lint, types and the direction of imports
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

security: $(READY)  ## look for weaknesses in the packaged template, with checkov (infra/checkov.yaml says what is passed over)
	@$(RUN) -m infra.security

format: $(READY)  ## put the sources into shape
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

deploy: $(READY)  ## deploy to AWS with your credentials: STAGE=dev or STAGE=prod (REGION=..., YES=1)
	@$(RUN) -m infra.deploy $(if $(STAGE),--stage "$(STAGE)") $(if $(REGION),--region "$(REGION)") $(if $(YES),--yes)

import: $(READY)  ## import subscriptions: CSV=file.csv (STAGE=prod for AWS, SKIP_INVALID=1 to leave bad rows out)
	@$(RUN) -m infra.import_subscriptions $(if $(CSV),"$(CSV)") $(if $(STAGE),--stage "$(STAGE)") $(if $(SKIP_INVALID),--skip-invalid)

balances: $(READY)  ## import credits that users have elsewhere: CSV=file.csv (STAGE=prod, SKIP_INVALID=1; docs/migrating.md)
	@$(RUN) -m infra.import_balances $(if $(CSV),"$(CSV)") $(if $(STAGE),--stage "$(STAGE)") $(if $(SKIP_INVALID),--skip-invalid)

units: $(READY)  ## count requests and capacity units of each operation
	@$(RUN) -m bench.units

cost: $(READY)  ## what a month on AWS costs, in dollars (USERS=50000 USAGES=20 READS=30 MAILS=2)
	@$(RUN) -m bench.cost $(if $(USERS),--users $(USERS)) $(if $(USAGES),--usages $(USAGES)) $(if $(READS),--reads $(READS)) $(if $(MAILS),--mails $(MAILS))

bench: $(READY)  ## everything measured, beside Celery and others, into bench/results.json (USERS=10000 ROUNDS=5 CELERY=no)
	@$(RUN) -m bench $(if $(USERS),--users $(USERS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(filter no,$(CELERY)),--without-celery)

capacity: $(READY)  ## how long a month's turn takes on AWS, simulated from what `make bench` measured
	@$(RUN) -m bench.capacity

scale: $(READY)  ## a sweep of a million users in one zone, killed on its way (USERS=1000000)
	@$(RUN) -m bench.scale $(if $(USERS),--users $(USERS))

verify: $(READY)  ## check ledgers line by line: USER_ID=42, ZONE=Europe/Paris or SAMPLE=1000 (STAGE=prod)
	@$(RUN) -m infra.verify $(USER_ID) $(if $(ZONE),--zone "$(ZONE)") $(if $(SAMPLE),--sample "$(SAMPLE)") $(if $(STAGE),--stage "$(STAGE)")

completeness: $(READY)  ## count who was due and who was allocated: PERIOD=2026-07 (ZONES=Europe/Paris,Asia/Tokyo STAGE=prod)
	@$(RUN) -m infra.completeness $(PERIOD) $(if $(ZONES),--zones "$(ZONES)") $(if $(STAGE),--stage "$(STAGE)")

redrive: $(READY)  ## list dead letters, or move them back: QUEUE=allocations LIMIT=10 (STAGE, DRY_RUN=1, YES=1, JSON=1; docs/repair.md)
	@$(RUN) -m infra.repair.redrive $(if $(QUEUE),--queue "$(QUEUE)") $(if $(LIMIT),--limit "$(LIMIT)") $(REPAIR)

replay: $(READY)  ## replay ticks: FROM=2026-07-01T00:00Z TO=... KIND=allocation or expiry (ZONES=..., STAGE, DRY_RUN, YES, JSON)
	@$(RUN) -m infra.repair.replay $(if $(FROM),--from "$(FROM)") $(if $(TO),--to "$(TO)") $(if $(KIND),--kind "$(KIND)") $(if $(ZONES),--zones "$(ZONES)") $(REPAIR)

allocate: $(READY)  ## grant what is due: PERIOD=2026-07 and USER_ID=42, FILE=users.txt or ZONE=... (STAGE, DRY_RUN, YES, JSON)
	@$(RUN) -m infra.repair.allocate $(if $(PERIOD),--period "$(PERIOD)") $(if $(USER_ID),--user-id "$(USER_ID)") $(if $(FILE),--file "$(FILE)") $(if $(ZONE),--zone "$(ZONE)") $(REPAIR)

void: $(READY)  ## take back a credit batch: USER_ID=42 BATCH=7 REASON=... ACTOR=... (KEY=..., NO_MAIL=1, STAGE, DRY_RUN, YES, JSON)
	@$(RUN) -m infra.repair.void $(if $(USER_ID),--user-id "$(USER_ID)") $(if $(BATCH),--batch "$(BATCH)") $(if $(REASON),--reason "$$REASON") $(if $(ACTOR),--actor "$$ACTOR") $(if $(KEY),--key "$(KEY)") $(if $(NO_MAIL),--no-mail) $(REPAIR)

export: $(READY)  ## all that is kept of a user, as JSON: USER_ID=42 > 42.json (STAGE=prod, DRY_RUN=1)
	@$(RUN) -m infra.repair.export $(if $(USER_ID),--user-id "$(USER_ID)") $(if $(STAGE),--stage "$(STAGE)") $(if $(DRY_RUN),--dry-run)

erase: $(READY)  ## erase a person, not the numbers: USER_ID=42 (SUBJECT="auth0|42", STAGE, DRY_RUN, YES, JSON)
	@$(RUN) -m infra.repair.erase $(if $(USER_ID),--user-id "$(USER_ID)") $(if $(SUBJECT),--subject "$(SUBJECT)") $(REPAIR)
mutants: $(READY)  ## every small mistake in domain and store: does a test notice? Takes hours (FILES="chalicelib/domain/batches.py")
	@$(RUN) -m tests.mutants $(FILES)

mails: $(READY)  ## pictures of every kind of mail, into docs/images/mails (needs chromium)
	@$(RUN) -m infra.mails

dashboard: $(READY)  ## a picture of the dashboard from sample data, into docs/images/dashboard
	@$(RUN) -m infra.dashboard_picture

reference: $(READY)  ## write docs/api-reference.md again, from the contract
	@$(RUN) -m infra.reference

screenshots: $(READY)  ## pictures of the console, into docs/images/console (needs chromium and chromium-driver)
	@SCREENSHOTS=1 $(RUN) -m pytest -q -n 0 tests/stack/test_console.py -k pictured

sample: $(READY)  ## make infra/sample/subscriptions.csv again
	@$(RUN) -m infra.sample.generate

clean:  ## remove everything that was made, .venv too
	rm -rf $(VENV) build .chalice/deployments .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf clients/typescript/node_modules clients/typescript/build clients/typescript/src/contract.ts
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo 'error: Credits needs Python 3.11 or newer, and "$(PYTHON)" is not. Name one: make PYTHON=python3.12 ...' >&2; exit 1; }
	@# --clear would follow a link and empty an environment that others use.
	@if [ -L $(VENV) ]; then \
	  echo 'error: $(VENV) is a link to an environment that is out of date. Renew it where it is, or remove the link.' >&2; exit 1; fi
	@echo 'Making $(VENV) (once, about a minute) ...' >&2
	@$(PYTHON) -m venv --clear $(VENV) >&2 || { \
	  echo 'error: Python has no venv module. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@# Each package is named as it comes; the pipe would hide pip's failure, so a file remembers it.
	@( $(VENV)/bin/pip install --disable-pip-version-check -r requirements-dev.txt || touch $@.failed ) 2>&1 \
	  | while read -r word rest; do case $$word in Collecting) echo "  $${rest%% *}";; ERROR:) echo "$$word $$rest";; esac; done >&2
	@if [ -e $@.failed ]; then rm $@.failed; echo 'error: pip could not install requirements-dev.txt' >&2; exit 1; fi
	@touch $@
