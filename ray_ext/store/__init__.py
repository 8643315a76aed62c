"""Durable state through SQLAlchemy (SQLite by default): what is known, installed, wanted, routed, done and undone."""
