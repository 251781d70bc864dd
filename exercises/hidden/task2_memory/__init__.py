"""Exercise sheet, task 2: memory."""
