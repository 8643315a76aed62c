"""``python -m tests.control.serve_alone HOME LISTEN CERT KEY``: what the control actor serves, without Ray."""

from __future__ import annotations

import sys
from pathlib import Path

from ray_ext.actors.control import Control
from ray_ext.control.listening import parse_listen
from ray_ext.home import Home


def main() -> None:
    """Until standard input ends."""
    home = Home(Path(sys.argv[1]))
    home.ensure()
    Control(str(home.root), home.namespace, parse_listen(sys.argv[2], tls_cert=sys.argv[3], tls_key=sys.argv[4]))
    sys.stdin.read()


if __name__ == "__main__":
    main()
