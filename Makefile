# Two commands matter: `make book` and `make test`. Each prepares the machine it needs.
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
PATH   := $(CURDIR)/$(VENV)/bin:$(PATH)
export PATH
PYTEST_ARGS ?=

.PHONY: help book serve test notebooks assignments grade attacks doctor bench lab lint lock clean

help:
	@echo "make book         build the site to _build/html"
	@echo "make serve        build it and serve it on this machine"
	@echo "make test         everything CI runs"
	@echo "make lab          open the chapters in JupyterLab"
	@echo "make notebooks    execute the chapters again"
	@echo "make assignments  write the students' versions of the assignments"
	@echo "make grade        grade a class: ASSIGNMENT=task2-memory FROM=submissions.zip"
	@echo "make attacks      try every known attack on the grader"
	@echo "make doctor       say what this machine's sandbox holds"
	@echo "make bench        time the library against its peers"
	@echo "make lint         check the style of the code"
	@echo "make lock         resolve the packages anew"
	@echo "make clean        remove the built site"

book:
	@$(PYTHON) tools/bootstrap.py site
	@$(VENV)/bin/jupyter-book build . -W --keep-going --quiet
	@echo "The book is built. Open it in a browser:"
	@echo "$(CURDIR)/_build/html/index.html"

serve: book
	@echo "Serving on http://127.0.0.1:8000 (stop with Ctrl-C)"
	@$(RUN) -m http.server 8000 --bind 127.0.0.1 --directory _build/html

test: lint
	@$(PYTHON) tools/bootstrap.py system
	@$(RUN) -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

everything:
	@$(PYTHON) tools/bootstrap.py site all

lab: everything
	@$(VENV)/bin/jupyter lab

notebooks: everything
	@$(RUN) -m tools.execute

assignments: everything
	@$(RUN) -m tools.assignments

grade: everything
	@$(RUN) -m grading grade $(ASSIGNMENT) $(if $(FROM),--from "$(FROM)") $(GRADE_ARGS)

attacks: everything
	@$(RUN) -m tests.grading.attacks

doctor: everything
	@$(RUN) -m grading doctor

bench: everything
	@$(RUN) -m tests.bench

lint: everything
	@$(RUN) -m ruff check lib tools tests exercises grading _ext chapters

lock: everything
	@$(RUN) -m tools.lock

clean:
	rm -rf _build
