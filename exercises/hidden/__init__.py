"""The hidden tests: nothing in here reaches a release or a feedback page but its messages."""
