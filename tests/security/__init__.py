"""Attacks on real guests, and what must hold while a guest starts and dies."""
