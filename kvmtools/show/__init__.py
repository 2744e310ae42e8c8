"""How things are written for a person: addresses, sizes, tables, drawings, colours, and what is printable."""
