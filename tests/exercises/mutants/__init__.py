"""Seeded mistakes and correct alternatives: what the hidden tests are tested with."""
