# Each target is one command that you could type yourself. Variables: OUT, TARGET, PRECISION, DEVICE, RECIPE, RUN, CORPUS.
OUT       ?= out
TARGET    ?= x86-cpu
DEVICE    ?=
PRECISION ?= int8
RECIPE    ?= demo/teacher
CORPUS    ?= $(OUT)/demo/corpus
RUN       ?= $(OUT)/runs/$(notdir $(RECIPE))
SIGNEDGE  := .venv/bin/signedge

.PHONY: help setup library demo distill engine matrix bench rivals report runtime test lint clean
.DEFAULT_GOAL := help

help:                ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/ready   ## install everything into .venv, at pinned versions

.venv/ready: pyproject.toml constraints.txt
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[train,export,bench,dev]'
	touch $@

library:             ## build libsignedge, through which engines are read: build/runtime/libsignedge.so
	cmake -S runtime -B build/runtime && cmake --build build/runtime --parallel

demo: setup library  ## corpus, teacher, students, engines, measurement, report: out/demo/report/index.html
	$(SIGNEDGE) demo --out $(OUT)/demo

distill: setup       ## train RECIPE on CORPUS
	$(SIGNEDGE) distill $(RECIPE) --corpus $(CORPUS) --out $(RUN)

engine: setup library ## export RUN and compile it for TARGET at PRECISION; on DEVICE=user@host over SSH, or into a bundle
	$(SIGNEDGE) export $(RUN) --out $(RUN).onnx
	$(SIGNEDGE) engine $(RUN).onnx --target $(TARGET) --precision $(PRECISION) --corpus $(CORPUS) $(if $(DEVICE),--device $(DEVICE)) --out $(RUN).$(TARGET).$(PRECISION).engine

matrix: setup library ## every network of the project for every target: fits, lowerings, refusals, builds
	$(SIGNEDGE) matrix --out $(OUT)/matrix

bench: setup library ## measure the engines of the demo again (the slash: folders only, no notes of refused ones)
	$(SIGNEDGE) bench $(OUT)/demo/engines/*/ --runs $(OUT)/demo/runs --target $(TARGET) --corpus $(CORPUS) --out $(OUT)/results.jsonl

rivals: setup library ## the engine of RUN against PyTorch, ONNX Runtime and OpenVINO on the same clips
	.venv/bin/python -m bench.rivals $(RUN).$(TARGET).$(PRECISION).engine --run $(RUN) --corpus $(CORPUS)

report: setup        ## the page from the records
	$(SIGNEDGE) report $(OUT)/results.jsonl --out $(OUT)/report

runtime: setup library ## build libsignedge, test it, say where it is
	.venv/bin/python -m pytest tests/runtime -q
	@echo "$(CURDIR)/build/runtime/libsignedge.so, for others: cmake --install build/runtime --prefix /usr/local"

test: setup library  ## every test that needs no GPU and no long training
	.venv/bin/python -m pytest

lint: setup          ## style and types
	.venv/bin/ruff check . && .venv/bin/mypy

clean:               ## remove what was built, keep the environment
	rm -rf $(OUT) build *.egg-info
