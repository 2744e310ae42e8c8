"""The rules: the only room that sees what the kernel has and what it ought to have.

:func:`kvmtools.compare.engine.check` judges one observation, :func:`kvmtools.compare.settle.settle` observes a running
guest again until what it found has lasted.  A rule is a :class:`~kvmtools.compare.rule.Rule`, one of
:data:`kvmtools.compare.rules.RULES`; what it finds is a :class:`~kvmtools.findings.Finding`.

Nothing is imported here: who asks where ``page->flags`` keep a zone (:mod:`kvmtools.compare.flag_fields`) should not
load every rule.
"""
