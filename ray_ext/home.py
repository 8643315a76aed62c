"""The state home: where a runtime keeps everything, and what is where."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Home"]


class Home:
    """The layout of one state home. Directories are made on first use, readable by their owner alone."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    @classmethod
    def default(cls) -> Home:
        """``RAY_EXT_HOME``, or the platform's folder for user data."""
        configured = os.environ.get("RAY_EXT_HOME")
        if configured:
            return cls(Path(configured))
        import platformdirs

        return cls(Path(platformdirs.user_data_dir("ray_ext", appauthor=False)))

    def ensure(self) -> None:
        """Make the home; mode 0700."""
        for parent in reversed(self.root.parents):
            if not parent.exists():
                # Not as the umask says: who may write to a parent can put another home in this one's place.
                parent.mkdir(mode=0o755, exist_ok=True)
        self.root.mkdir(mode=0o700, exist_ok=True)
        self.root.chmod(0o700)
        for folder in (self.run, self.packages, self.environments, self.layers, self.logs, self.data):
            folder.mkdir(mode=0o700, exist_ok=True)

    @property
    def key(self) -> str:
        """A short name of this home, for namespaces and socket folders."""
        import hashlib  # as tempfile below: what imports this for a path alone is not to wait for them

        return hashlib.sha256(os.path.realpath(self.root).encode()).hexdigest()[:12]

    @property
    def namespace(self) -> str:
        """The Ray namespace of the runtime's actors."""
        return f"ray_ext.{self.key}"

    @property
    def ray_temp(self) -> Path:
        """Ray's folder for sockets and logs: outside the home, because a Unix socket's path has at most 107 bytes."""
        import tempfile

        return Path(tempfile.gettempdir()) / f"ray_ext-{os.getuid()}-{self.key}"

    @property
    def store_url(self) -> str:
        """The store's database URL."""
        return f"sqlite:///{self.root / 'store.db'}"

    @property
    def run(self) -> Path:
        """What is true only while a runtime runs."""
        return self.root / "run"

    @property
    def packages(self) -> Path:
        """The package cache."""
        return self.root / "packages"

    @property
    def environments(self) -> Path:
        """The Python packages of extensions."""
        return self.root / "environments"

    @property
    def extensions(self) -> Path:
        """Where extensions are looked for, unless ``RAY_EXT_PATH`` says otherwise."""
        return self.root / "extensions"

    @property
    def layers(self) -> Path:
        """What guests import of ray_ext."""
        return self.root / "layers"

    @property
    def logs(self) -> Path:
        """Logs, a folder per extension, and ``system``."""
        return self.root / "logs"

    @property
    def data(self) -> Path:
        """The extensions' own directories."""
        return self.root / "data"

    def log_file(self, extension: str) -> Path:
        """An extension's log."""
        return self.logs / extension / "log.jsonl"

    def system_log_file(self, actor: str) -> Path:
        """The log of an actor of the system."""
        return self.logs / "system" / f"{actor}.jsonl"

    def data_dir(self, extension: str) -> Path:
        """An extension's own directory."""
        return self.data / extension
