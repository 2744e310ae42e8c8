"""The rules: the only room that sees what the kernel has and what it ought to have.

:func:`check` judges one observation, :func:`settle` observes a running guest again until what it found has lasted.
A rule is a :class:`~kvmtools.compare.rule.Rule`, one of :data:`RULES`; what it finds is a
:class:`~kvmtools.compare.finding.Finding`.
"""

from __future__ import annotations

from kvmtools.compare.engine import check
from kvmtools.compare.evidence import Evidence
from kvmtools.compare.finding import Finding, Outcome, Result, Status
from kvmtools.compare.rule import Rule
from kvmtools.compare.rules import RULES
from kvmtools.compare.settle import settle

__all__ = ["RULES", "Evidence", "Finding", "Outcome", "Result", "Rule", "Status", "check", "settle"]
