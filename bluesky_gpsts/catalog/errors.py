"""Errors of the catalog: each says what was wrong and what to do next."""

from pathlib import Path


class CatalogError(RuntimeError):
    """A catalog cannot be opened, written or read."""


class JournalError(CatalogError):
    """A document cannot be written to a journal, or a journal cannot be read.

    Attributes
    ----------
    path : Path
        The journal file (or its folder).
    offset : int or None
        Byte at which the journal stops making sense; None where it does not apply.
    """

    def __init__(self, message: str, path: Path, offset: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.offset = offset
