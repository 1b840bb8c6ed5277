"""A verdict in words."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Verdict", "listed"]


@dataclass(frozen=True)
class Verdict:
    """Whether the result can be used, in sentences.

    Attributes
    ----------
    failures
        What is wrong and what to do; the verdict is ok when there are none.
    notes
        What is worth knowing and does not make the result wrong.
    figures
        One sentence with the numbers behind the verdict.
    """

    failures: tuple[str, ...]
    notes: tuple[str, ...]
    figures: str

    @property
    def ok(self) -> bool:
        """True when nothing speaks against using the result."""
        return not self.failures

    @property
    def reasons(self) -> tuple[str, ...]:
        """All sentences: the failures first, then the notes."""
        return self.failures + self.notes

    @property
    def line(self) -> str:
        """The verdict in one line."""
        if self.ok:
            return f"Verdict: ok. {self.figures}"
        return "Verdict: NOT OK. " + " ".join(self.failures)

    def __str__(self) -> str:
        return "\n".join((self.line, *(f"  - {note}" for note in self.notes)))

    def __bool__(self) -> bool:
        return self.ok


def listed(names: list[str], most: int = 4) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
