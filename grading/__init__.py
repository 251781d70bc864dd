"""The instructor's side: submissions run in a sandbox, are graded from outside it, and reported."""
