"""Nouns: values and pure decisions. No I/O, no clock, no hidden chance."""
