"""What a person sees of a run: a progress line, metrics, pictures, a manifest, a report, a model card."""
