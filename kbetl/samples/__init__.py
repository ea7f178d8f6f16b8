"""Reads samples, their fields and their facts from rows. Pure."""
