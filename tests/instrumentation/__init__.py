"""Tests of what listens to facts."""
