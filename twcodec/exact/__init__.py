"""The exact entropy path: integer arithmetic, entropy networks in it, frequency tables, range coder."""
