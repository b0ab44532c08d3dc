.DEFAULT_GOAL := help
.PHONY: help demo test serve install check clean

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE := 1

help:
	@echo "make demo   install, build the starter knowledge base, draft one film, write demo/draft.png"
	@echo "make test   everything that is checked: style, types, import contracts, tests with coverage"
	@echo "make serve  the API on 127.0.0.1:8000"

$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps torchvision==0.28.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[bench,langchain,ray,test]"
	@touch $(STAMP)

install: $(STAMP)

demo: install
	@$(BIN)/python -m indexer starter
	@test -f demo/film.png || $(BIN)/python -m eval.phantom demo/film.png --case demo
	@$(BIN)/python -m rag_service draft demo/film.png --picture demo/draft.png
	@echo "The film with its numbered boxes: demo/draft.png"

test: install check
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

serve: install
	@$(BIN)/python -m indexer starter
	$(BIN)/python -m api

clean:
	rm -rf build demo .coverage* .mypy_cache .ruff_cache
