"""What can go wrong with a database file, in words that say what to do.

    UaitError
    ├── DatabaseUnusable         the operator must act: the file cannot be opened or migrated (the message names it)
    │   ├── DatabaseTooNew       a newer uait wrote it
    │   └── MigrationFailed      one migration failed; the file is as it was before it
    └── APIError
        ├── Unavailable
        │   ├── DatabaseBusy     503: too much waits, or another process holds the write lock
        │   └── DatabaseClosed   503: the service that owns it is stopping
        └── InternalError
            ├── DatabaseFull     507: the disk is full; what is stored can still be read
            └── DatabaseBroken   500: the machine or the file is damaged, or may not be written

The second half reaches clients, so its messages hold no path; which file it was stands in the exception's notes, and so in the log.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from uait.errors import InternalError, UaitError, Unavailable


class DatabaseUnusable(UaitError):
    """A database file cannot be opened: the message says which one, why, and what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class DatabaseTooNew(DatabaseUnusable):
    """The file was migrated further than this program knows."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        self.found = found
        self.known = known
        super().__init__(
            path,
            f"has schema version {found}, this program knows {known}: start the newer uait that wrote it, or restore the backup made before upgrading",
        )


class MigrationFailed(DatabaseUnusable):
    """Migration number `number` failed; `__cause__` is why. Those before it are kept, it itself left nothing."""

    def __init__(self, path: Path, number: int, reason: str) -> None:
        self.number = number
        super().__init__(path, f"migration {number} failed and was undone: {reason}")


class DatabaseBusy(Unavailable):
    """Too much waits already, or another process has held the write lock for longer than the busy timeout."""

    code, message = "DATABASE_BUSY", "The database is busy; try again."


class DatabaseClosed(Unavailable):
    """The database was closed before the request was begun, or before a disk that hangs had stored it (the message says which)."""

    code, message = "DATABASE_CLOSED", "The service is stopping; try again."


class DatabaseFull(InternalError):
    """There is no room for the write: nothing of it is stored."""

    status, code, message = 507, "STORAGE_FULL", "The disk is full: nothing was stored; free some space and try again."


class DatabaseBroken(InternalError):
    """The file is damaged, may not be written, or the disk fails."""

    code, message = "STORAGE_BROKEN", "The database cannot be used; the log of the service says why."


_BUSY = (apsw.BusyError, apsw.LockedError)
_BROKEN = (
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.IOError,
    apsw.NoLFSError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.ProtocolError,
    apsw.ReadOnlyError,
)


def translated(error: BaseException, path: Path) -> BaseException:
    """The error of ours that `error` means, caused by it; `error` itself where it is about the request and not about the file."""
    ours: BaseException
    if isinstance(error, _BUSY):
        ours = DatabaseBusy()
    elif isinstance(
        error, apsw.InterruptError
    ):  # only closing interrupts a connection; a caller that goes does it otherwise
        ours = DatabaseClosed()
    elif isinstance(error, apsw.FullError):
        ours = DatabaseFull()
    elif isinstance(error, _BROKEN):
        ours = DatabaseBroken()
    else:
        return error
    ours.add_note(f"{path}: {error}")
    ours.__cause__ = error
    return ours


def unusable(error: BaseException, path: Path) -> DatabaseUnusable | None:
    """What `error` means when it comes while a file is being opened, or None where it does not say anything about the file."""
    reasons: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
        ((apsw.NotADBError,), "is not an SQLite database: move it away, or set another data directory"),
        ((apsw.CorruptError,), "is damaged: restore it from a backup"),
        (
            (apsw.ReadOnlyError, apsw.PermissionsError),
            "may not be written: check its owner and mode, and those of its directory",
        ),
        ((apsw.FullError,), "cannot be written because the disk is full"),
        (_BUSY, "is locked by another process: stop that one first"),
        (
            (apsw.CantOpenError, apsw.IOError),
            "cannot be opened: check that its directory exists, is writable and on a disk that works",
        ),
    )
    for kinds, reason in reasons:
        if isinstance(error, kinds):
            return DatabaseUnusable(path, f"{reason} ({error})")
    return None
