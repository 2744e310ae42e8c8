"""What this host lends us: processes, signals, accelerators, and locks on what is cached."""
