"""Where a catalog keeps what on disk, and the small files that describe it."""

import json
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CatalogError

ENVIRONMENT = "BLUESKY_GPSTS_CATALOG"


@dataclass(frozen=True)
class Layout:
    """Paths inside a catalog directory.

    Parameters
    ----------
    root : Path
        The catalog directory, absolute.
    """

    root: Path

    @property
    def journals(self) -> Path:
        """Folder of the journals that are not yet completely in the catalog."""
        return self.root / "journal"

    @property
    def delivered(self) -> Path:
        """Folder of the journals whose runs are completely in the catalog."""
        return self.journals / "delivered"

    @property
    def damaged(self) -> Path:
        """Folder of the journals that could be read in part only."""
        return self.journals / "damaged"

    @property
    def logs(self) -> Path:
        """Folder of the log files."""
        return self.root / "logs"

    @property
    def server_file(self) -> Path:
        """JSON file: uri, pid and token of the running embedded server."""
        return self.root / "server.json"

    @property
    def key_file(self) -> Path:
        """The API key of the embedded server, readable by its owner only."""
        return self.root / "api_key"

    @property
    def progress_file(self) -> Path:
        """JSON file: bytes delivered of each journal under way, and the last trouble."""
        return self.root / "deliver.json"

    def lock(self, name: str) -> Path:
        """Lock file of one role ("server" or "deliver")."""
        return self.root / f"{name}.lock"


def default_directory() -> Path:
    """Directory of the embedded catalog when none is named.

    Returns
    -------
    Path
        The environment variable BLUESKY_GPSTS_CATALOG, else the user's data folder.
    """
    import platformdirs

    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named).expanduser()
    return Path(platformdirs.user_data_dir("bluesky-gpsts", appauthor=False)) / "catalog"


def prepare(root: str | Path) -> Layout:
    """Create the folders of a catalog and make sure that they can be written.

    Parameters
    ----------
    root : str or Path
        The catalog directory; created if missing.

    Returns
    -------
    Layout

    Raises
    ------
    CatalogError
        The directory cannot be created or written.
    """
    layout = Layout(Path(root).expanduser().absolute())
    try:
        for folder in (layout.root, layout.journals, layout.delivered, layout.logs):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"writable")
    except OSError as error:
        raise CatalogError(
            f"The catalog directory {layout.root} cannot be written "
            f"({error.strerror or error}); name a writable one, "
            f"for example with the environment variable {ENVIRONMENT}."
        ) from error
    return layout


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file so that a reader sees the old or the new one, never a part.

    Parameters
    ----------
    path : Path
    content : object
        Anything that JSON can hold.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; an absent or unreadable file is an empty object.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def api_key(layout: Layout) -> str:
    """Key of the embedded server: read, or made once and kept for the owner only.

    Parameters
    ----------
    layout : Layout

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    try:
        # The mode is set at creation, so the key is at no moment readable by others.
        descriptor = os.open(layout.key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = layout.key_file.read_text(encoding="ascii").strip()
        if not key:
            raise CatalogError(
                f"The key file {layout.key_file} is empty; delete it to have a new key made."
            ) from None
        return key
    key = secrets.token_hex(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(key)
    return key
