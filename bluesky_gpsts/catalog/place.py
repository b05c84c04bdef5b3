"""Which catalog is meant, and the connection to it."""

import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from .errors import CatalogError
from .layout import Layout, api_key, default_directory, prepare
from .processes import end
from .server import START_SECONDS, Server, ensure_server, serving

CLIENT_KEY_VARIABLE = "TILED_API_KEY"


@dataclass(frozen=True)
class Place:
    """A catalog: a directory of ours, or a Tiled server elsewhere.

    Attributes
    ----------
    layout : Layout
        Local folders; for a server elsewhere they hold its journals and logs.
    uri : str or None
        Address of a Tiled server elsewhere, without the key.
    profile : str or None
        Name of a Tiled profile.
    key : str or None
        API key for a server elsewhere; never shown.
    """

    layout: Layout
    uri: str | None = None
    profile: str | None = None
    key: str | None = field(default=None, repr=False)

    @property
    def embedded(self) -> bool:
        """Whether the server is one that we run."""
        return self.uri is None and self.profile is None

    @property
    def name(self) -> str:
        """What to call it in messages."""
        if self.profile is not None:
            return f"profile {self.profile!r}"
        return self.uri or str(self.layout.root)


def locate(
    where: str | Path | None = None, key: str | None = None, *, create: bool = True
) -> Place:
    """Tell a directory, a URI and a profile apart, and prepare the local folders.

    Parameters
    ----------
    where : str or Path, optional
        A directory, ``http://...`` or ``https://...``, or ``profile:NAME``. Default: the
        directory in the environment variable BLUESKY_GPSTS_CATALOG, else the user's data folder.
    key : str, optional
        API key of a server elsewhere. Default: the environment variable TILED_API_KEY.
    create : bool
        Whether a directory without a catalog becomes a new one.

    Returns
    -------
    Place

    Raises
    ------
    CatalogError
        The directory cannot be written; or it holds no catalog and `create` is False, and
        nothing has been made then.
    """
    text = str(where) if where is not None else ""
    key = key or os.environ.get(CLIENT_KEY_VARIABLE)
    if text.startswith("profile:"):
        profile = text.removeprefix("profile:")
        return Place(prepare(_outpost(f"profile-{profile}")), profile=profile, key=key)
    if re.match(r"https?://", text):
        parts = urlsplit(text)
        # A key in the address would end up in logs and in the process list.
        key = parse_qs(parts.query).get("api_key", [key])[0]
        uri = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        return Place(prepare(_outpost(parts.netloc + parts.path)), uri=uri, key=key)
    root = Path(where if where is not None else default_directory()).expanduser().absolute()
    if not create and not Layout(root).journals.is_dir():
        raise CatalogError(
            f"There is no catalog in {root}; give the directory of one, the address of a Tiled "
            "server or profile:NAME (a session makes a new catalog)."
        )
    return Place(prepare(root))


def _outpost(name: str) -> Path:
    """Folder for the journals of a server elsewhere."""
    return default_directory().parent / "remote" / re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_")


class Link:
    """A connection to a catalog that can be dropped and made again.

    Parameters
    ----------
    place : Place
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._client: Any = None
        self._server: Server | None = None
        self._asked = 0.0

    def client(self, timeout: float = START_SECONDS) -> Any:
        """Tiled client of the container of runs; an embedded server is started if need be.

        Parameters
        ----------
        timeout : float
            Seconds to wait for an embedded server.

        Returns
        -------
        tiled.client.container.Container

        Raises
        ------
        CatalogError
            No server answers, or it refuses the key.
        """
        if self._client is None:
            uri = self.place.uri
            if self.place.embedded:
                uri = self._embedded(timeout)
            self._client = connect(self.place, uri)
        return self._client

    def _embedded(self, timeout: float) -> str:
        server = ensure_server(self.place.layout, timeout)
        if server.process is not None:
            self.close()
            self._server = server
        return server.uri

    def lost(self) -> bool:
        """Tell whether an embedded server has gone since `client` was called.

        Returns
        -------
        bool
            A server that another process started is asked once a second at most.
        """
        if self._client is None or not self.place.embedded:
            return False
        if self._server is not None and self._server.process is not None:
            return self._server.process.poll() is not None
        if time.monotonic() < self._asked + 1.0:
            return False
        self._asked = time.monotonic()
        return serving(self.place.layout) is None

    def drop(self) -> None:
        """Forget the client, so that the next use connects anew."""
        self._client = None

    def close(self, timeout: float = 20.0) -> None:
        """Stop the server if this link started it.

        Parameters
        ----------
        timeout : float
            Seconds to wait for it to end by itself.
        """
        if self._server is not None and self._server.process is not None:
            end(self._server.process, timeout)
        self._server = None
        self._client = None


def connect(place: Place, uri: str | None) -> Any:
    """Connect to a server that runs.

    Parameters
    ----------
    place : Place
    uri : str or None
        Its address; None for a profile.

    Returns
    -------
    tiled.client.container.Container

    Raises
    ------
    CatalogError
        It cannot be reached, or refuses the key.
    """
    import httpx
    from tiled.client import from_profile, from_uri

    try:
        if place.uri is not None:
            # Tiled's client would try for 45 s to reach a server that is not there.
            httpx.get(place.uri, timeout=10.0)
        if place.profile is not None:
            options = {"api_key": place.key} if place.key else {}
            return from_profile(place.profile, **options)
        if place.embedded:
            return from_uri(uri, api_key=api_key(place.layout), trust_env=False, remember_me=False)
        return from_uri(uri, api_key=place.key)
    except Exception as error:
        # Tiled passes on whatever HTTP, TLS, YAML or its own profile search raise.
        raise CatalogError(
            f"The Tiled catalog {place.name} cannot be opened "
            f"({type(error).__name__}: {error}); check the address, the network and the "
            f"key in {CLIENT_KEY_VARIABLE}."
        ) from error
