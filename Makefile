# make demo   trains a few-shot segmenter on drawn pictures and shows what it learned
# make test   checks everything that must hold
# VENV=path uses an environment that exists already; PYTHON=python3.12 says which Python makes a new one
PYTHON ?= python3
VENV ?= .venv

BIN := $(abspath $(VENV))/bin
# this checkout comes first, whatever the environment has installed
HERE := PYTHONPATH="$(CURDIR)" PATH="$(BIN):$$PATH"
ONE := $(HERE) OMP_NUM_THREADS=1

.PHONY: venv demo test house names exported executed shown nbtest pytest notebooks export readme hooks clean
venv:
	@$(PYTHON) tools/environment.py "$(VENV)"

demo: venv
	@$(HERE) fss demo

# each check by itself, e.g. make pytest; make -k test goes on after a failure
test: house names exported executed shown nbtest pytest

house: venv
	@$(ONE) python tools/house.py

names: venv
	@$(ONE) ruff check -q --output-format concise --target-version py310 --select E9,F fss_nb tools tests

exported: venv
	@$(ONE) python tools/exported.py

executed: venv
	@$(ONE) python tools/run_nbs.py --check

shown: venv
	@$(ONE) python tools/readme.py --check

nbtest: venv
	@echo 'running every notebook (some minutes):'
	@$(ONE) CUDA_VISIBLE_DEVICES= nbdev_test

pytest: venv
	@$(ONE) python -m pytest -n 2 --dist loadfile

notebooks: venv
	@$(HERE) nbdev_export
	@$(HERE) python tools/run_nbs.py
	@$(HERE) python tools/readme.py

export: venv
	@$(HERE) nbdev_export
	@$(HERE) nbdev_clean

readme: venv
	@$(HERE) python tools/readme.py

hooks: venv
	@git config core.hooksPath tools/hooks
	@git config fss-nb.python "$(BIN)/python"
	@echo "pre-commit hook in place; undo with: git config --unset core.hooksPath"

clean:
	rm -rf build dist *.egg-info runs _proc _docs _docsrc .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
