"""Secrets in uploads: find them, and write a copy of a trace without them."""
