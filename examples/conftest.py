"""Lets the examples' tests import what they test when pytest runs from the repository's root."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent

for folder in (HERE, HERE / "github_triage", HERE / "linear_sync", HERE / "slack_notifier"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
