"""Configurations that cannot work, refused before torch is imported."""

from train.validate.check import PARTS, validate

__all__ = ["PARTS", "validate"]
