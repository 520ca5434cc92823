# Dentro i container. I due comandi di tutti: «make lab» per studiare, «make test» per provare tutto.
PYTHON ?= python3
export PYTHON
images  = @.venv/bin/labkit course-images --quiet || echo "Si va avanti senza quelle che mancano; poi: .venv/bin/labkit course-images"
setup   = @command -v $(PYTHON) >/dev/null || { echo "Serve Python 3.11 o più nuovo: sudo apt-get install python3 python3-venv"; exit 1; }; $(PYTHON) tools/setup.py

.DEFAULT_GOAL := help
.PHONY: help setup lab test lint slides notebooks bench lock clean

help: ## questo elenco
	@echo "Dentro i container: un corso che i container li costruisce davvero."; echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

setup: ## prepara la macchina per lab e test, e nient'altro
	$(setup) setup
	$(images)

lab: ## prepara la tua copia delle lezioni e apre JupyterLab (make lab DIR=cartella)
	$(setup) lab
	$(images)
	@exec .venv/bin/labkit lab $(DIR)

test: ## tutte le prove, da amministratore e da utente (make test ARGS="tests/unit -x")
	$(setup) test
	@exec .venv/bin/python tools/test.py $(ARGS)

lint: ## solo stile, tipi e regole di importazione (meno di un minuto)
	$(setup) test
	@exec .venv/bin/python -m pytest -q tests/architecture

slides: ## costruisce le presentazioni in build/slides, senza rete
	$(setup) lab
	@exec .venv/bin/labkit slides build

notebooks: ## riesegue le lezioni di notebooks/ e ne conserva i risultati (per chi le scrive)
	$(setup) setup
	$(images)
	@exec .venv/bin/python -m labkit.course.execute notebooks/*.ipynb

bench: ## misura l'avvio di un container accanto a bwrap, crun, runc, podman, docker
	$(setup) bench
	@exec .venv/bin/python bench/start.py $(ARGS)

lock: ## riscrive requirements/ quando cambiano le dipendenze
	@exec tools/lock.sh

clean: ## toglie le cose costruite dalle prove e dalle presentazioni (l'ambiente .venv resta)
	rm -rf build dist reports .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find labkit tests tools bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
