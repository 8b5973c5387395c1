"""Makes and improves model files. Encoding and decoding never come here."""
