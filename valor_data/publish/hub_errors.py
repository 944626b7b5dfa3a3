"""What an error of the Hub's client means: whether it passes, or what the user must mend, in one line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from valor_data.errors import PublishError, hide_queries

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 522, 524})
_QUOTA = re.compile(r"storage|quota|limit|too large|exceed", re.IGNORECASE)


class NotThereError(PublishError):
    """The repository, the branch or the file is not there."""


class ChangedMeanwhileError(PublishError):
    """Somebody else committed to the branch."""


class PassingError(PublishError):
    """What may pass; `after_seconds`: how long the Hub asks to wait, where it says so."""

    def __init__(self, message: str, after_seconds: float | None) -> None:
        super().__init__(message)
        self.after_seconds = after_seconds


class BadCardError(PublishError):
    """The Hub does not take a card."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges errors met at a repository.

    Attributes:
        name: `ORG/NAME`.
        endpoint: address of the Hub.
        branch: the branch that is written.
        token: what must be in no message.
    """

    name: str
    endpoint: str
    branch: str
    token: str = field(repr=False)

    def judge(self, what: str, error: BaseException) -> PublishError:
        """What an error of the client means: to be tried again, or for the user to mend."""
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        if response is not None and response.headers.get("X-Error-Code") == "RepoNotFound":
            status = 404  # some Hubs answer 401 to this, whoever asks
        told = self._hidden(getattr(error, "server_message", None) or "" if status else str(error))
        where = f"{self.name}: {what}"
        if isinstance(error, ValueError) and status is None:
            words = told.removeprefix("LFS batch API returned errors:\n")
            return BadCardError(words) if what == "checking the card" else self._refused(where, 0, words)
        if isinstance(error, OSError) and error.filename is not None and status is None:
            return PublishError(f"{where}: {error.filename}: {error.strerror}")
        if status is None:
            name = type(error).__name__
            return PassingError(f"{where}: the connection failed ({name}{': ' + told if told else ''})", None)
        if status in _PASSING:
            after = _seconds(response.headers.get("Retry-After")) if response is not None else None
            return PassingError(f"{where}: the Hub answered {status}{' ' + told if told else ''}", after)
        return self._refused(where, status, told)

    def _refused(self, where: str, status: int, told: str) -> PublishError:
        words = f" ({told})" if told else ""
        if status == 401:
            return PublishError(
                f"{where}: the Hub does not know this token{words}: run `hf auth login`, or set HF_TOKEN to one with "
                "write access"
            )
        if status in (402, 403, 413, 0) and _QUOTA.search(told):
            return PublishError(
                f"{where}: no room left{words}: free storage or buy more at {self.endpoint}/settings/billing, "
                "push a smaller --edition, then this again; what arrived is not sent twice"
            )
        if status in (402, 403):
            return PublishError(
                f"{where}: this token may not do that{words}: it needs write access to "
                f"{self.name.split('/')[0]}; see {self.endpoint}/settings/tokens"
            )
        if status == 404:
            return NotThereError(f"{where}: not there{words}")
        if status == 412:
            return ChangedMeanwhileError(
                f"{where}: somebody else changed the branch {self.branch} meanwhile{words}: run this again"
            )
        return PublishError(f"{where}: the Hub refused{f' with {status}' if status else ''}{words}")

    def _hidden(self, text: str) -> str:
        """A text in one line, without the token and without what follows `?` in an address, which may be a key."""
        return " ".join(hide_queries(text.replace(self.token, "***")).split())[:500]


def _seconds(text: str | None) -> float | None:
    """A Retry-After in seconds; as a date, or as anything else, None."""
    return float(text) if text and re.fullmatch(r"\d+(\.\d+)?", text.strip(), re.ASCII) else None


def cause(error: BaseException) -> BaseException:
    """The error behind `Error while uploading …`, in which the client wraps what an upload met."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error
