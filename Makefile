# Trine from a fresh checkout: `make demo` to chat, `make test` to test. Needs Python 3.11+ with venv, and git.

PYTEST := .venv/bin/python -m pytest

.PHONY: help demo test test-long check bench gates venv qt-libraries demo-model clean

# this list
help:
	@awk '/^# / { says = substr($$0, 3); next } /^[a-z-]+:/ && says { sub(":.*", ""); printf "%-13s %s\n", $$0, says } { says = "" }' Makefile

# a chat with all three parties on this machine, in a window, or in the terminal where there is no display
demo: venv qt-libraries demo-model
	.venv/bin/trine demo

# all tests but the long ones: first in pairs, with coverage, then alone those that measure time or use every core
test: venv qt-libraries demo-model
	COVERAGE_FILE=.coverage-units $(PYTEST) -m "not long and not alone" --numprocesses 2 --dist loadfile --cov --cov-report=
	$(PYTEST) -m "alone and not long"

# statistics, a thousand tokens of the real model, endurance
test-long: venv qt-libraries demo-model
	$(PYTEST) -m long

# the demo's and the engine's figures (an hour or two); PEER=spu measures SecretFlow-SPU beside it, ROWS="demo" some rows only
bench: venv demo-model
	.venv/bin/python -m benchmarks --peer "$(PEER)" $(ROWS)

# docs/gates.md, the table of what each gate costs, from the gates' plans; a test says when it is due
gates: venv
	.venv/bin/python -m benchmarks.gates

# style and types; and coverage, if `make test` has measured it since the last change
check: venv
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m tests.coverage_floor

# .venv with exactly what the lock files pin; this and the next two do nothing when their work is done already
venv:
	@scripts/setup-venv

# the system libraries that Qt needs: installed as root, named otherwise
qt-libraries: venv
	@scripts/qt-libraries

# the demo model's checkpoint, into the user's cache
demo-model: venv
	@scripts/demo-model

# everything that make and the tools made in this checkout; the demo model stays in the user's cache
clean:
	rm -rf .venv .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
