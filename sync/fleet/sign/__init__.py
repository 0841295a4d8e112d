"""The operator's side of TUF. With `sync.trust`, all that knows it."""

from sync.fleet.sign.repository import Repository, Transaction

__all__ = ["Repository", "Transaction"]
