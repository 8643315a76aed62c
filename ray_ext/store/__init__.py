"""Durable state: releases, installations, generations and routes, through SQLAlchemy (SQLite by default)."""
