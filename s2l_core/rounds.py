"""`python -m s2l_core.rounds` is `s2l predict` now: its old name, until the next release."""

if __name__ == "__main__":
    from s2l_core.moved import moved

    moved("predict")
