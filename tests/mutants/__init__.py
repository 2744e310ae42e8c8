"""``make mutants``: is every part of ``kvmtools/model`` held by a test?

A *mutant* is the model with one small mistake in it: ``<`` for ``<=``, a constant off by one, a statement left
out.  A test that fails *kills* it.  What survives is either a hole in the tests or a change that changes nothing;
the latter are listed in ``survivors.txt``, each with its reason.

* :mod:`mutants.operators` makes the mistakes, in the text of a file;
* :mod:`mutants.trial` runs chosen tests against one of them, in a fork of a warm interpreter;
* :mod:`mutants.baseline` asks once which tests touch which lines, and how long they take;
* :mod:`mutants.verdicts` chooses the tests, judges all mutants and remembers what it found;
* :mod:`mutants.survivors` reads and writes the list.

Ours, because the kept ones do not fit: mutmut 3 mutates functions only, and much of this model is tables at the
level of the module, dataclass defaults and properties; cosmic-ray starts pytest anew for every mutant and edits
the work tree.  Neither can be told why a survivor is none.
"""
