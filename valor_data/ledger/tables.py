"""What every group of tables needs: the connection and a transaction."""

from __future__ import annotations

import sqlite3


class Tables:
    """A group of tables of one ledger."""

    _db: sqlite3.Connection

    def begin(self) -> None:
        """Opens a transaction unless one is open; `commit` closes it."""
        if not self._db.in_transaction:
            self._db.execute("BEGIN")

    def rollback(self) -> None:
        """Undoes everything recorded since the last commit."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def commit(self) -> None:
        """Makes everything recorded so far durable."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")
