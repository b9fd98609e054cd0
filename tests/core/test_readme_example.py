"""The README's example trains on arrays with the core alone, and finds the nuclei."""

import re

import pytest

import s2l_core
from conftest import ROOT

EXAMPLE = re.search(
    r"^## From Python\n.*?^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S
).group(1)


def test_the_readme_trains_on_arrays_in_ten_lines(monkeypatch, one_thread):
    monkeypatch.setenv("S2L_PLAIN", "1")
    names = {}
    exec(EXAMPLE, names)

    truth, found = names["nuclei"], names["probability"] > 0.5
    assert (truth & found).sum() / (truth | found).sum() > 0.7
    statements = [line for line in EXAMPLE.splitlines() if line and not line.startswith("#")]
    imports = [line for line in statements if line.startswith(("import", "from"))]
    assert len(statements) - len(imports) <= 10
    assert not re.search(r"s2l_(images|paper)", EXAMPLE)


def test_the_public_names_are_there():
    promised = """
        ScribbleUNet contrastive_loss partial_bce region_labels sample_regions PseudoLabels Trainer
        RunConfig predict iou mdice mdice_official aji f1 instances""".split()
    assert {*promised} <= {*s2l_core.__all__} <= {*dir(s2l_core)}
    for name in s2l_core.__all__:
        assert getattr(s2l_core, name) is not None, name
    with pytest.raises(AttributeError, match="Trainr"):
        s2l_core.Trainr  # noqa: B018
