"""The reproduction of Oh et al. 2022: data sets, annotators, baselines, runs, statistics,
tables and figures.
"""
