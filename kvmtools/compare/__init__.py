"""The rules: the only room that sees what the kernel has and what it ought to have.

:func:`check` judges one observation, :func:`settle` observes a running guest again until what it found has lasted.
A rule is a :class:`~kvmtools.compare.rule.Rule`, one of :data:`RULES`; what it finds is a
:class:`~kvmtools.findings.Finding`.
"""

from __future__ import annotations

from kvmtools.compare.case import Case
from kvmtools.compare.engine import check
from kvmtools.compare.rule import Rule
from kvmtools.compare.rules import RULES
from kvmtools.compare.settle import settle
from kvmtools.findings import Finding, Outcome, Result, Status

__all__ = ["RULES", "Case", "Finding", "Outcome", "Result", "Rule", "Status", "check", "settle"]
