"""The assignments: sources with solutions and hidden tests, and what nbgrader needs to run them."""
