"""`python -m twcodec`."""

from twcodec.cli.main import run

run()
