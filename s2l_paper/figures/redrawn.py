"""The charts of a profile drawn anew from its runs and tables, to hold committed pictures against.

They need neither images nor weights.
"""

from collections.abc import Callable

from matplotlib.figure import Figure

from s2l_paper.comparing import sensitivity
from s2l_paper.figures import charts, reliability
from s2l_paper.running import results


def redrawn(profile: str) -> dict[str, Callable[[], Figure]]:
    """File name -> what draws that chart.

    Args:
        profile: a name in PROFILES, with finished runs.
    """
    runs, every = results.load_runs(profile), results.load_runs(profile, variants=True)

    def reading_picture() -> Figure:
        return charts.reading_picture(sensitivity.reading_table(profile, every))

    def budget_picture() -> Figure:
        return charts.budget_picture(sensitivity.budget_table(profile, every))

    return {
        "costs.png": lambda: charts.cost_picture(runs, profile),
        "differences.png": lambda: charts.difference_forest(runs),
        "reliability.png": lambda: reliability.picture(reliability.table(profile)),
        "readings.png": reading_picture,
        "budget.png": budget_picture,
    }
