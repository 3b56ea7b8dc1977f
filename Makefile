# Credits. `make help` lists all targets. You need only Python 3.11 or newer and make: the first target that
# needs it makes .venv, and nothing is installed outside of it. Each target only sets up and passes its
# variables on; `.venv/bin/python -m infra COMMAND --help` lists the options of a command.

PYTHON ?= python3
override VENV := .venv
override READY := $(VENV)/.ready
override RUN := $(VENV)/bin/python

# A value arrives as it was given, whatever is in it. It meets neither make, which would read a $ in it, nor
# the shell: recipes name the variable of the environment that holds it. $(value) is what make does not read.
#
# make reads what it hands on, too; so what was given on its command line is made plain text first.
$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(eval override $(name) := $$(value $(name)))$(eval export $(name))))

# $(call exported,CSV): "$GIVEN_CSV", for the shell. Its own name, because some names mean something to a shell.
exported = $(eval export GIVEN_$(1) := $$(value $(1)))"$$GIVEN_$(1)"
# $(call option,csv,CSV): --csv="$GIVEN_CSV", or nothing. With the = a value may begin with a dash.
option = $(if $(value $(2)),--$(1)=$(call exported,$(2)))
# $(call flag,yes,YES): --yes for YES=1, nothing for YES=0 or no YES at all.
flag = $(if $(call is,$(2),$(ON)),--$(1))
# $(call is,YES,1 yes true): whether it is one of these words; ends with a message for a word that is not known.
is = $(filter $(2),$(or $(call one-word,$(filter $(ON) $(OFF),$(value $(1))),$(value $(1))),$(if $(value $(1)),$(error $(1) must be 1 or 0))))
one-word = $(if $(word 2,$(2)),,$(1))
override ON := 1 yes true
override OFF := 0 no false

# $(call needs,A B,example): ends with the example unless all the variables are given.
needs = $(foreach name,$(1),$(if $(value $(name)),,$(error make $@ needs $(name). For example: make $@ $(2))))

STAGED = $(call option,stage,STAGE) $(call option,region,REGION)
REPAIR = $(STAGED) $(call flag,dry-run,DRY_RUN) $(call flag,yes,YES) $(call flag,json,JSON)

# What is imported is compiled once, whatever this machine thinks of it: set-up compiles nothing.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

##@ Every day
.PHONY: help run up token env clock test check format lock clean

help:  ## list all targets
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-13s  %s\n", $$1, $$2}' Makefile

run: $(READY) | writable  ## see it work: emulator, stack, sample data, the turn of a month (CSV=mine.csv EXIT=1)
	@$(RUN) -m infra run $(call option,csv,CSV) $(call flag,exit,EXIT)

up: $(READY) | writable  ## start an empty stack until Ctrl-C; prints one line of JSON with every name (SHADOW=1)
	@$(RUN) -m infra up $(call flag,shadow,SHADOW)

token: $(READY)  ## make a token for the running stack: USER_ID=42 (SCOPE="credits:admin" SECONDS=3600)
	@$(RUN) -m infra token $(call option,user-id,USER_ID) $(call option,scope,SCOPE) $(call option,seconds,SECONDS)

env: $(READY)  ## print API and TOKEN of the stack: eval "$(make -s env)" (USER_ID= SCOPE= WAIT=120)
	@$(RUN) -m infra env $(call option,user-id,USER_ID) $(call option,scope,SCOPE) $(call option,seconds,SECONDS) $(call option,wait,WAIT)

clock: $(READY)  ## read or move the local stack's clock: TO="next midnight", "next 1st", "+30 days" (ZONE=)
	@$(RUN) -m infra clock $(call option,to,TO) $(call option,zone,ZONE)

test: $(READY) | writable  ## run all tests (ARGS="-k name tests/unit" picks some)
	@ARGS=$(call exported,ARGS) $(RUN) -m tests

check: $(READY) | writable  ## check format, lint, types and the direction of imports
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/mypy --python-version 3.10 clients/python/src  # its oldest
	@$(VENV)/bin/lint-imports

format: $(READY) | writable  ## format the sources
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

lock: $(READY) | writable  ## write the lists of packages and hashes from pyproject.toml (UPGRADE=1)
	@$(RUN) -m infra lock $(call flag,upgrade,UPGRADE)

clean:  ## remove all generated files, and .venv
	rm -rf $(VENV) build .chalice/deployments .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf clients/typescript/node_modules clients/typescript/build clients/typescript/src/contract.ts
	rm -rf tests/generators/node_modules tests/generators/build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Deploy and operate (the running local stack, or STAGE=prod REGION=eu-west-1 in your AWS account)
.PHONY: deploy package doctor deploy-policy token-check import balances usages shadow cutover grant show verify completeness liability whatif stripe stripe-secret security

deploy: $(READY) | writable  ## show the changes, then deploy to AWS: STAGE=dev or prod (REGION= YES=1)
	$(call needs,STAGE,STAGE=dev)
	@$(RUN) -m infra deploy $(STAGED) $(call flag,yes,YES) $(call flag,ignore-findings,IGNORE_FINDINGS) $(call option,package,PACKAGE) $(call option,digest,DIGEST)

package: $(READY) | writable  ## package for make deploy PACKAGE= DIGEST= elsewhere: STAGE=dev OUT=folder (REGION=)
	$(call needs,STAGE OUT,STAGE=dev OUT=build/package)
	@$(RUN) -m infra package $(STAGED) $(call option,out,OUT)

doctor: $(READY)  ## say what is wrong with a deployment or a running stack; changes nothing (JSON=1)
	@$(RUN) -m infra doctor $(STAGED) $(call flag,json,JSON)

deploy-policy: $(READY) | writable  ## print the IAM policies of a deploy role: STAGE=prod (REGION= ACCOUNT= OUT=folder)
	$(call needs,STAGE,STAGE=prod)
	@$(RUN) -m infra deploy-policy $(STAGED) $(call option,account,ACCOUNT) $(call option,out,OUT)

token-check: $(READY)  ## say why a token is accepted or refused: TOKEN=eyJ... or on standard input (JSON=1)
	@TOKEN=$(call exported,TOKEN) $(RUN) -m infra token-check $(STAGED) $(call flag,json,JSON)

import: $(READY)  ## import subscriptions: CSV=subscribers.csv (SKIP_INVALID=1 leaves bad rows out)
	$(call needs,CSV,CSV=subscribers.csv)
	@$(RUN) -m infra import $(STAGED) $(call flag,skip-invalid,SKIP_INVALID) -- $(call exported,CSV)

balances: $(READY)  ## import balances from another system: CSV=balances.csv (docs/migrating.md)
	$(call needs,CSV,CSV=balances.csv)
	@$(RUN) -m infra balances $(STAGED) $(call flag,skip-invalid,SKIP_INVALID) -- $(call exported,CSV)

usages: $(READY)  ## spend in a shadow what the old system let users spend: CSV=moves.csv (docs/migrating.md)
	$(call needs,CSV,CSV=moves.csv)
	@$(RUN) -m infra usages $(STAGED) $(call flag,skip-invalid,SKIP_INVALID) -- $(call exported,CSV)

cutover: $(READY)  ## turn the ledgers of a shadow into those that count: STAGE=prod (NIGHTS=31 YES=1)
	@$(RUN) -m infra cutover $(call option,nights,NIGHTS) $(REPAIR)

grant: $(READY)  ## try a promotion, then run what was tried: CSV=promo.csv APPROVED_BY=ada (DIGEST=)
	$(call needs,CSV APPROVED_BY,CSV=promo.csv APPROVED_BY=ada)
	@$(RUN) -m infra grant $(STAGED) $(call option,approved-by,APPROVED_BY) $(call option,digest,DIGEST) -- $(call exported,CSV)

show: $(READY)  ## show a user, what they have and why: USER_ID=42 or EMAIL=ada@example.com (JSON=1)
	@$(RUN) -m infra show $(call option,email,EMAIL) $(STAGED) $(call flag,json,JSON) $(if $(value USER_ID),-- $(call exported,USER_ID))

verify: $(READY)  ## check ledgers: USER_ID=42, ZONE=Europe/Paris, SAMPLE=1000, ALL=1 (ANCHORS= JSON=1)
	@$(RUN) -m infra verify $(call option,zone,ZONE) $(call option,sample,SAMPLE) $(call flag,all,ALL) $(call option,anchors,ANCHORS) $(STAGED) $(call flag,json,JSON) $(if $(value USER_ID),-- $(call exported,USER_ID))

completeness: $(READY)  ## count who was due for a month and who was allocated: PERIOD=2026-07 (ZONES= JSON=1)
	$(call needs,PERIOD,PERIOD=2026-07)
	@$(RUN) -m infra completeness $(call option,zones,ZONES) $(STAGED) $(call flag,json,JSON) -- $(call exported,PERIOD)

liability: $(READY)  ## count credits outstanding: AT=2026-10-31T24:00Z (EXPORT= SUBSCRIPTIONS= AS_CSV=1 YES=1)
	$(call needs,AT,AT=2026-10-31T24:00Z)
	@$(RUN) -m infra liability $(call option,export,EXPORT) $(call option,subscriptions,SUBSCRIPTIONS) $(call flag,yes,YES) $(STAGED) $(call flag,json,JSON) $(call flag,as-csv,AS_CSV) -- $(call exported,AT)

whatif: $(READY) | writable  ## what if? other plans, past months: PLANS=new.toml FROM=2026-01 TO=2026-12 (USERS=all)
	$(call needs,PLANS FROM TO,PLANS=new-plans.toml FROM=2026-01 TO=2026-12)
	@$(RUN) -m infra whatif $(call option,plans,PLANS) $(call option,from,FROM) $(call option,to,TO) $(call option,users,USERS) $(call option,export,EXPORT) $(call option,subscriptions,SUBSCRIPTIONS) $(call option,edits,EDITS) $(call flag,yes,YES) $(STAGED) $(call flag,json,JSON)

shadow: $(READY) | writable  ## compare with the system it runs beside: CSV=old.csv FROM= (UNTIL= TOLERANCE= EXPORT=)
	$(call needs,CSV,CSV=old.csv FROM=2026-11-20T22:00:00Z)
	@$(RUN) -m infra shadow $(call option,from,FROM) $(call option,until,UNTIL) $(call option,tolerance,TOLERANCE) $(call option,export,EXPORT) $(call option,subscriptions,SUBSCRIPTIONS) $(call option,edits,EDITS) $(call flag,yes,YES) $(STAGED) $(call flag,json,JSON) -- $(call exported,CSV)

stripe: $(READY)  ## list what Stripe told of and could not be done yet, and why (JSON=1)
	@$(RUN) -m infra stripe $(STAGED) $(call flag,json,JSON)

stripe-secret: $(READY)  ## put Stripe's signing secret where the webhook reads it (asks, or standard input)
	@$(RUN) -m infra stripe-secret $(STAGED)

security: $(READY) | writable  ## look for known weaknesses of template and packages (ADVISORIES=all.zip OFFLINE=1)
	@$(RUN) -m infra security $(call flag,offline,OFFLINE) $(call option,advisories,ADVISORIES)

##@ Repair (docs/repair.md; all take STAGE, REGION and DRY_RUN=1, and all but export YES=1 and JSON=1)
.PHONY: redrive replay allocate void events export erase

redrive: $(READY)  ## list dead letters, or move them back: QUEUE=allocations (LIMIT=10)
	@$(RUN) -m infra redrive $(call option,queue,QUEUE) $(call option,limit,LIMIT) $(REPAIR)

replay: $(READY)  ## replay ticks: FROM=2026-07-01T00:00Z KIND=allocation or expiry (TO= ZONES=)
	$(call needs,FROM KIND,FROM=2026-07-01T00:00Z KIND=allocation)
	@$(RUN) -m infra replay $(call option,from,FROM) $(call option,to,TO) $(call option,kind,KIND) $(call option,zones,ZONES) $(REPAIR)

allocate: $(READY)  ## grant what is due: PERIOD=2026-07 and USER_ID=42, FILE=users.txt or ZONE=
	$(call needs,PERIOD,PERIOD=2026-07 USER_ID=42)
	@$(RUN) -m infra allocate $(call option,period,PERIOD) $(call option,user-id,USER_ID) $(call option,file,FILE) $(call option,zone,ZONE) $(REPAIR)

void: $(READY)  ## take back a batch: USER_ID= BATCH= REASON= ACTOR= (KEY= NO_MAIL=1 INCLUDING_HELD=1)
	$(call needs,USER_ID BATCH REASON ACTOR,USER_ID=42 BATCH=42-7 REASON="Granted twice" ACTOR=ada)
	@$(RUN) -m infra void $(call option,user-id,USER_ID) $(call option,batch,BATCH) $(call option,reason,REASON) $(call option,actor,ACTOR) $(call option,key,KEY) $(call flag,no-mail,NO_MAIL) $(call flag,including-held,INCLUDING_HELD) $(REPAIR)

events: $(READY)  ## follow the local events, or send a user's again: USER_ID=42 FROM=17 or an instant
	@$(RUN) -m infra events $(call option,user-id,USER_ID) $(call option,from,FROM) $(REPAIR)

export: $(READY)  ## write all data of a user as JSON: USER_ID=42 > 42.json
	$(call needs,USER_ID,USER_ID=42 > 42.json)
	@$(RUN) -m infra export $(call option,user-id,USER_ID) $(STAGED) $(call flag,dry-run,DRY_RUN)

erase: $(READY)  ## erase a person's data, and keep the numbers: USER_ID=42 (SUBJECT="auth0|42")
	$(call needs,USER_ID,USER_ID=42)
	@$(RUN) -m infra erase $(call option,user-id,USER_ID) $(call option,subject,SUBJECT) $(REPAIR)

##@ Proof and figures
.PHONY: contract prove units cost bench capacity scale hot

contract: $(READY) | writable  ## send thousands of generated requests against the API's contract (EXAMPLES=50 a route)
	@CONTRACT_EXAMPLES=$(if $(value EXAMPLES),$(call exported,EXAMPLES),50) $(RUN) -m pytest -s tests/stack/test_contract.py

prove: $(READY) | writable  ## run every proof of the guarantee, three hours (PARTS="zones crashes"; docs/proof.md)
	@set -f; PARTS=$(call exported,PARTS); $(RUN) -m tests.prove $$PARTS

units: $(READY) | writable  ## count requests and capacity units of each operation
	@$(RUN) -m infra units

cost: $(READY)  ## print what a month on AWS costs (USERS= USAGES= READS= MAILS= SIZE= EVENTS=1 RIVAL=1)
	@$(RUN) -m infra cost $(call option,users,USERS) $(call option,usages,USAGES) $(call option,reads,READS) $(call option,mails,MAILS) $(call option,size,SIZE) $(call flag,events,EVENTS) $(call flag,rival,RIVAL)

bench: $(READY) | writable  ## measure CPU beside Celery and the SDK: bench/results.json (USERS= ROUNDS= CELERY=no)
	@$(RUN) -m infra bench $(call option,users,USERS) $(call option,rounds,ROUNDS) $(if $(call is,CELERY,$(OFF)),--without-celery)

capacity: $(READY)  ## simulate how long a month's turn takes on AWS, from what `make bench` measured
	@$(RUN) -m infra capacity

scale: $(READY) | writable  ## sweep a million users in one zone, and kill the sweep on its way (USERS=10000000)
	@$(RUN) -m infra scale $(call option,users,USERS)

hot: $(READY) | writable  ## measure one account that 1, 8 and 64 callers use at once: bench/hot.json (SECONDS=5)
	@$(RUN) -m infra hot $(call option,seconds,SECONDS)

##@ Generated pages and pictures
.PHONY: reference screenshots mails dashboard sample

reference: $(READY) | writable  ## write docs/api-reference.md and clients/statement/verify.html from their sources
	@$(RUN) -m infra reference

screenshots: $(READY) | writable  ## picture the console and the frontend kit, into docs/images (needs chromium)
	@SCREENSHOTS=1 $(RUN) -m pytest -q -n 0 tests/stack/test_console.py tests/stack/test_console_deployed.py tests/stack/test_kit.py -k pictured

mails: $(READY) | writable  ## picture the emails, into docs/images/mails; in your name: STAGE=prod (needs chromium)
	@$(RUN) -m infra mails $(call option,stage,STAGE)

dashboard: $(READY) | writable  ## draw the dashboard with sample data, into docs/images/dashboard
	@$(RUN) -m infra dashboard

sample: $(READY) | writable  ## write infra/sample/subscriptions.csv
	@$(RUN) -m infra sample

# --- Set-up ---------------------------------------------------------------------------------------

.PHONY: writable
writable:
	@test -w . || { echo 'error: this folder cannot be written to, and Credits makes .venv and build in it.' \
	  'Clone it where you can write.' >&2; exit 1; }

$(READY): requirements.txt requirements-dev.txt
	@test -w . || $(MAKE) --no-print-directory writable
	@$(call exported,PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  printf 'error: Credits needs Python 3.11 or newer, and "%s" is not. Name one: make PYTHON=python3.12 ...\n' $(call exported,PYTHON) >&2; exit 1; }
	@# --clear would follow a link and empty an environment that others use.
	@if [ -L $(VENV) ]; then \
	  echo 'error: $(VENV) is a link to an environment that is out of date. Renew it where it is, or remove the link.' >&2; exit 1; fi
	@$(call exported,PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo 'error: Python has no venv module. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@# One at a time: `make up &` and `make env` of a new clone would clear each other's. The lock is on this
	@# file, and ends with the shell. A fifth of what is installed is ever imported; it is compiled then.
	@# Each package is named as it comes; the pipe would hide pip's failure, so a file remembers it.
	@exec 9<Makefile; lock() { "$$GIVEN_PYTHON" -c "import fcntl; fcntl.flock(9, $$1)" 2>/dev/null; }; \
	  lock 'fcntl.LOCK_EX | fcntl.LOCK_NB' || { \
	    echo 'Waiting for another make, which is making $(VENV) ...' >&2; lock fcntl.LOCK_EX; }; \
	  if [ $@ -nt requirements.txt ] && [ $@ -nt requirements-dev.txt ]; then exit 0; fi; \
	  echo 'Making $(VENV) (once, about a minute) ...' >&2; \
	  "$$GIVEN_PYTHON" -m venv --clear $(VENV) >&2 || exit 1; \
	  ( $(VENV)/bin/pip install --no-compile --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-dev.txt || touch $@.failed ) 2>&1 \
	    | while read -r word rest; do case $$word in Collecting) echo "  $${rest%% *}";; ERROR:) echo "$$word $$rest";; esac; done >&2; \
	  if [ -e $@.failed ]; then rm $@.failed; echo 'error: pip could not install requirements-dev.txt.' \
	    'Is there a network, and a package index? Installing needs them; run make again when they are there.' >&2; exit 1; fi; \
	  touch $@
