"""What a replay reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Result:
    """The outcome of replaying one file, in decisions (picks, steps, values) that aibalance made."""

    matched: int = 0
    total: int = 0
    unsupported: int = 0
    """Records of the file that aibalance does not decide yet: never counted as matched."""
    first_mismatch: str | None = None
    bound: str | None = None
    """How a statistical comparison was made."""

    def check(self, where: str, expected: object, got: object) -> bool:
        """Count one decision; keep the first that differs."""
        self.total += 1
        if expected == got:
            self.matched += 1
            return True
        if self.first_mismatch is None:
            self.first_mismatch = f"{where}: expected {expected!r}, got {got!r}"
        return False
