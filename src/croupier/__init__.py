"""Croupier: process roulette under control."""

__version__ = "0.1.0"
