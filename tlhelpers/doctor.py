"""What is in order here and what is not: `tl.doctor()` in a notebook, `python -m tlhelpers doctor` elsewhere.

Importing this needs nothing but the standard library, so it can still speak where torch is broken or absent.
"""

from __future__ import annotations

import codecs
import sys
import textwrap
from dataclasses import dataclass

from tlhelpers.diagnosis import checks, torch_checks
from tlhelpers.diagnosis.checks import Finding
from tlhelpers.diagnosis.facts import Facts, gather

SIGNS = {"ok": "✓", "note": "○", "trouble": "✗"}
PLAIN_SIGNS = {"ok": "ok", "note": "note", "trouble": "TROUBLE"}  # for terminals that lack the others
WIDTH = 110  # characters in a line of the report

QUICK = (
    checks.check_python,
    checks.check_environment,
    checks.check_packages,
    torch_checks.check_torch,
    torch_checks.check_torchvision,
    checks.check_kernel,
    checks.check_memory,
    checks.check_disk,
    checks.check_weights,
    checks.check_font,
)
SLOW = (torch_checks.check_gpu, torch_checks.check_profile, checks.check_network)


@dataclass(frozen=True, repr=False)
class Report:
    """The findings of `doctor`; printing it, or a notebook showing it, gives the text."""

    findings: tuple[Finding, ...]

    @property
    def troubles(self) -> tuple[Finding, ...]:
        """The findings that must be mended."""
        return tuple(finding for finding in self.findings if finding.level == "trouble")

    @property
    def ok(self) -> bool:
        """Whether there is no trouble."""
        return not self.troubles

    def text(self, encoding: str | None = "utf-8") -> str:
        """The report, written so that every character exists in `encoding` (None, or one not known: ASCII)."""
        codec = _codec(encoding)
        signs = SIGNS if _can_encode("".join(SIGNS.values()), codec) else PLAIN_SIGNS
        lines = [line for finding in self.findings for line in _lines(finding, signs)]
        text = "\n".join([*lines, self.verdict()])
        return text.encode(codec, errors="backslashreplace").decode(codec)

    def verdict(self) -> str:
        """The last line: one sentence."""
        names = ", ".join(finding.title for finding in self.troubles)
        if not names:
            return "No trouble: you can start."
        count = len(self.troubles)
        return f"{count} trouble{'s' * (count > 1)}: {names}. Mend the first one, then ask again."

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__


def _codec(encoding: str | None) -> str:
    try:
        return codecs.lookup(encoding or "ascii").name
    except LookupError:
        return "ascii"


def _can_encode(text: str, codec: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _lines(finding: Finding, signs: dict[str, str]) -> list[str]:
    """One finding as lines: sign, title, what was found; below it the advice, indented. Commands are never broken."""
    sign_width = max(map(len, signs.values()))
    margin = " " * (sign_width + 14)
    head = f"{signs[finding.level]:{sign_width}} {finding.title:12} "
    lines = _wrapped(finding.found, head, margin)
    for line in finding.advice.splitlines():
        lines += [margin + line] if line.startswith("    ") else _wrapped(line, margin, margin)
    return lines


def _wrapped(text: str, first: str, margin: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )


def doctor(*, quick: bool = False) -> Report:
    """Look at Python, packages, PyTorch, Jupyter, memory, disk, GPU and profile, and say what to mend.

    Takes as long as `import torch` in a fresh process: some 3 to 10 s. Nothing is changed, and the network is
    tried in the full profile only.

    Args:
        quick: leave out what takes seconds: trying out torch, the GPU and the profile.

    Returns:
        A report that shows itself in a notebook, and prints as text; `report.ok` is False where there is trouble.
    """
    return examine(gather(quick=quick))


def examine(facts: Facts) -> Report:
    """Judge the facts; the slow checks only where their facts were gathered."""
    return Report(tuple(check(facts) for check in (QUICK if facts.probe is None else QUICK + SLOW)))


def main(*, quick: bool = False) -> int:
    """Print the report for `python -m tlhelpers doctor`.

    Returns:
        The exit code: 0 without trouble, 1 with.
    """
    if sys.stderr.isatty() and not quick:
        print("Trying out PyTorch, which takes some seconds ...", file=sys.stderr)
    report = doctor(quick=quick)
    print(report.text(sys.stdout.encoding))
    return 0 if report.ok else 1
