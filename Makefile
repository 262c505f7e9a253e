python := .venv/bin/python

.PHONY: style types tests coverage bench

style:
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

types:
	$(python) -m mypy

tests:
	$(python) -m pytest

coverage:
	$(python) -m pytest --cov --cov-report=term-missing:skip-covered

# Every benchmarks/bench_*.py, one after another.
bench:
	@set -e; for file in $(sort $(wildcard benchmarks/bench_*.py)); do \
	  $(python) -m benchmarks.$$(basename $$file .py); \
	done
