"""FLUX.2 and FLUX.2 Klein: settings, what the families have of their own, and miniatures."""
