"""`python -m s2l_core.checks` is `s2l check` now: its old name, until the next release."""

if __name__ == "__main__":
    from s2l_core.moved import moved

    moved("check")
