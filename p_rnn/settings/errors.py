"""The one exception for mistakes that a user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """A wrong setting, file or combination; the message is one line that says what to do.

    Scripts print it without a traceback and exit with status 2. Bugs of our own are `assert`s
    and ordinary exceptions, and keep their traceback.
    """


class FullDisk(UserError, OSError):
    """There is no room for a file; what it was before is still there."""


class Unreadable(UserError, OSError):
    """The system does not give us a file or memory; that file may be in order."""


def refuse_inert(inert: bool, key: str, why: str) -> None:
    """Refuse a setting that has no effect.

    Raises:
        UserError: where it is so.
    """
    if inert:
        raise UserError(f"{key} has no effect {why}; leave it out or set it to null")


class Uninformative(UserError):
    """A feature that tells nothing of any item: without values, or the same for all."""


def how_to_install(extra: str) -> str:
    """The command that installs an optional extra."""
    return f"pip install 'p_rnn[{extra}]' (in a checkout: -c constraints.txt -e '.[{extra}]')"
