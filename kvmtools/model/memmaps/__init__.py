"""``mem_map`` built in simulated memory in the ways there are, with what each conversion costs."""
