"""Submissions that are wrong by construction, and try to be paid for it all the same."""
