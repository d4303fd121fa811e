"""The table of a study: a paper's numbers, ours beside them, and the difference.

study + where its numbers lie -> table.py (plain data) -> words.py -> Markdown, terminal, page.py; chart.py
"""
