"""Training: what makes the models learn, and the runs whose results the book keeps."""
