"""Every exception of Croupier, and the exit code that each one ends a command with.

    CroupierError
    ├── ExperimentError   you wrote it wrong      2
    ├── ReplayError       this record does not fit 2
    ├── Refused           a guard said no         3
    ├── TargetError       the world moved         becomes *missed* or *unsure* in the journal
    └── HarnessError      we broke                5

The program under test failing is never an exception: it is a finding, and findings live in the verdict.
"""

from __future__ import annotations


class CroupierError(Exception):
    """The root: something that a person should read, with a way forward.

    `at` says where (a path in a document, a file with its line, a process); `hint` says what to try.
    """

    exit_code = 5

    def __init__(self, message: str, *, at: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.at}: " if self.at else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{where}{self.message}{hint}"


class ExperimentError(CroupierError):
    """The experiment file, or the command line, is wrong. Nothing was touched.

    `others` are further problems of the same file, found in the same reading, in the order of the file.
    """

    exit_code = 2

    def __init__(self, message: str, *, at: str = "", hint: str = "", others: tuple[ExperimentError, ...] = ()) -> None:
        super().__init__(message, at=at, hint=hint)
        self.others = others

    @property
    def every(self) -> tuple[ExperimentError, ...]:
        """This problem and the others, each alone, as a list of problems is shown."""
        return (ExperimentError(self.message, at=self.at, hint=self.hint), *self.others)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(str(one) for one in self.others)])


class ReplayError(CroupierError):
    """A stored run cannot be read, or does not fit what it is asked to do."""

    exit_code = 2


class Refused(CroupierError):
    """A guard said no. The message names the limit; the hint says how to widen it."""

    exit_code = 3


class TargetError(CroupierError):
    """The world moved between choice and act. Becomes *missed* or *unsure*, never a crash of ours."""


class HarnessError(CroupierError):
    """Croupier itself broke. `unhealed` names what is still disturbed and how to put it back."""

    exit_code = 5

    def __init__(self, message: str, *, at: str = "", hint: str = "", unhealed: tuple[str, ...] = ()) -> None:
        super().__init__(message, at=at, hint=hint)
        self.unhealed = unhealed

    def __str__(self) -> str:
        left = "".join(f"\n  not healed: {one}" for one in self.unhealed)
        return super().__str__() + left
