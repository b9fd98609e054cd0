"""A folder of one's own: what lies in it, what it is for, and what is wrong with it."""
