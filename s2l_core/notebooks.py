"""`python -m s2l_core.notebooks` is `s2l notebook` now: its old name, until the next release."""

if __name__ == "__main__":
    from s2l_core.moved import moved

    moved(run="notebook", train="train", warmup="train --warm-up")
