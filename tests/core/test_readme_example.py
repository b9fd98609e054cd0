"""The README's example trains on arrays with the core alone, and finds the nuclei."""

import re

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
