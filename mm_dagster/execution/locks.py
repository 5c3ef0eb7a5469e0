"""One process at a time sells at an account."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mm_dagster.execution.journal import JournalError


class AccountLocked(JournalError):
    """Another process sells at the account."""


@contextmanager
def account_lock(folder: Path, fingerprint: str) -> Iterator[None]:
    """One process at a time sells at an account; the lock ends with the process that holds it, however that ends.

    Args:
        folder: the same one for all processes of this machine that may; it is made where there is none.
        fingerprint: of the account, the same for all; see market/trading.py.

    Raises:
        AccountLocked: another process has it.
        JournalError: the folder cannot be used. Nothing was asked of the exchange.
    """
    path = folder / f"orders-{fingerprint}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0, mode=0o600)
        lock.acquire()
    except Timeout:
        raise AccountLocked(
            f"{path}: another process leaves a grid at this account just now; see `mm exit status`"
        ) from None
    except OSError as error:
        raise JournalError(f"{path}: it cannot be locked ({error.strerror}); nothing is sold without a lock") from None
    try:
        yield
    finally:
        lock.release()
