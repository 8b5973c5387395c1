"""Attacks, threat models, defences to compare, and the evaluation that sets them against each other."""
