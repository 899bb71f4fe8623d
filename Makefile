# `make lab` opens the course, `make test` checks it; both first install what is missing into .venv.
# `make` alone lists the rest. To choose a Python: make lab PYTHON=python3.12

ifeq ($(OS),Windows_NT)
PYTHON ?= python
PY := .venv/Scripts/python
else
PYTHON ?= python3
PY := .venv/bin/python
endif
NOTEBOOKS := $(wildcard chapter12/*.ipynb labs/*.ipynb solutions/*.ipynb)
# Old packages announce what newer ones have mended since: there alone a deprecation is no error.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 $(if $(filter oldest,$(VERSIONS)),-W ignore::DeprecationWarning)

.PHONY: help lab again test test-all lint run sync book pdf results bench constraints clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

lab: .venv/.installed  ## open your copies of the notebooks in JupyterLab
	$(PY) tools/lab.py

again: .venv/.installed  ## start a lab again, and keep your version beside it: make again LAB=lab2
	$(PY) tools/workbook.py again "$(LAB)"

test: lint  ## lint, run the unit tests but the slow ones, compare the notebooks' outputs
	$(PYTEST) -m "not slow" tests
	$(if $(NOTEBOOKS),$(PYTEST) --dist loadfile --nbval $(NOTEBOOKS))

test-all: lint  ## the same with the slow tests: installation, a browser, training that is killed
	$(PYTEST) tests
	$(if $(NOTEBOOKS),$(PYTEST) --dist loadfile --nbval $(NOTEBOOKS))

lint: .venv/.installed  ## check style, format and types
ifeq ($(filter oldest newest,$(VERSIONS)),)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	@# Types are checked as of Python 3.10, as which those of NumPy for 3.12 and newer cannot be read.
	$(PY) -c "import sys; sys.exit(sys.version_info < (3, 12))" || $(PY) -m mypy
endif

run: .venv/.installed  ## execute every notebook, without a screen
	$(PY) tools/notebooks.py run

sync: .venv/.installed  ## make the labs out of their solutions, and each notebook anew from its .py file
	$(PY) tools/labs.py
	$(PY) tools/notebooks.py sync
	$(PY) tools/results_page.py

book: .venv/.installed  ## make the HTML book: build/book/index.html
	$(PY) tools/browser_page.py
	rm -rf build/book build/doctrees build/jupyter_execute
	$(PY) -m sphinx -q -W --keep-going -c book -d build/doctrees . build/book
	@echo "The book is in build/book. To read all of it: $(PY) tools/serve_book.py"

pdf: .venv/.installed  ## print the chapter to build/chapter.pdf, with Chromium
	$(PY) tools/book_pdf.py

results: .venv/.installed  ## measure what is missing of the results that are quoted: make results REAL=FOLDER (hours)
	$(PY) experiments/transfer.py $(if $(REAL),"$(REAL)")
	$(PY) experiments/refinements.py $(if $(REAL),"$(REAL)")
	$(PY) experiments/shift.py
	$(PY) experiments/choosing.py $(if $(REAL),"$(REAL)")
	$(PY) experiments/claims.py $(if $(REAL),"$(REAL)")
	$(PY) experiments/lora.py
	$(PY) experiments/recipes.py $(if $(REAL),"$(REAL)")
	$(PY) experiments/language.py $(if $(REAL),$(foreach file,$(wildcard $(REAL)/hutto_ICWSM_2014.tar.gz),"$(file)"))
	$(PY) experiments/pneumonia.py $(if $(REAL),"$(REAL)/chest_xray")
	$(PY) experiments/hospitals.py $(if $(REAL),"$(REAL)/chest_xray")
	$(PY) tools/results_page.py

bench: .venv/.installed  ## time the loop against its peers: pip install -e '.[bench]' first (hours)
	$(PY) experiments/benchmark.py
	$(PY) tools/results_page.py

constraints: .venv/.installed  ## take the newest versions of all packages into constraints.txt
	$(PY) -m uv pip compile --universal --python-version 3.10 --extra dev --extra bench --extra language --upgrade \
	    --no-annotate --no-header --quiet --output-file constraints.txt pyproject.toml

clean:  ## remove the installation and the tools' caches; workbook/, runs/ and downloads stay
	rm -rf .venv build .pytest_cache .ruff_cache .mypy_cache

# Holds only after a complete installation; a change of either file brings it up to date.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) tools/install.py
