"""What the guest's kernel *has*: types, page tables, ``mem_map``, zones and pkmap, as NumPy columns."""
