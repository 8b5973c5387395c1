"""Model files, the catalogue, the embedded default, and what turns checkpoints into model files."""
