"""What ``import kvmtools`` offers: open a guest's kernel, ask it, check it.

The command line, the prompt and a user's script go through here.  One file a subject: it reads what is asked while the
guest is held, and its answer is a record that prints as the command does.  :mod:`kvmtools` lists the names.
"""
