"""Runs of a few steps with faults in their numbers."""

from tests.faults.conftest import pages, runs

__all__ = ["pages", "runs"]
