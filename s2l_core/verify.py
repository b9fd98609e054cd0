"""`python -m s2l_core.verify` is `s2l verify` now: its old name, until the next release."""

if __name__ == "__main__":
    from s2l_core.moved import moved

    moved("verify")
