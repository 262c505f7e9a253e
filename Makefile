python := .venv/bin/python

.PHONY: style types tests coverage docs bench bench-check

style:
	$(python) -m ruff check --fix .
	$(python) -m ruff format .
	$(python) -m codespell_lib

types:
	$(python) -m mypy

tests:
	OMP_NUM_THREADS=1 $(python) -m pytest -n 3 --no-loadscope-reorder

coverage:
	$(python) -m pytest --cov --cov-report=term-missing:skip-covered

# The site, in results/site.
docs:
	NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs build

# Quick runs against the ratios that were published.
bench-check:
	OPENBLAS_NUM_THREADS=1 $(python) -m benchmarks.check --speed

# Minutes each, on an idle machine. First the guard: what is worse is not published unseen.
bench: bench-check
	$(python) -m benchmarks.engine --json benchmarks/results/engine.json
	$(python) -m benchmarks.features --json benchmarks/results/features.json
	$(python) -m benchmarks.accuracy --json training/accuracy.json
	OPENBLAS_NUM_THREADS=1 $(python) -m benchmarks.detector --json benchmarks/results/detector.json
	OPENBLAS_NUM_THREADS=1 $(python) -m benchmarks.session --seconds 120 --runs 15 --json benchmarks/results/session.json
	$(python) -m benchmarks.live --json benchmarks/results/live.json
	$(python) -m benchmarks.dashboard --json benchmarks/results/dashboard.json
