"""How the tables came to be, step by step; run when a database is opened.

A step is never changed once released: a change of ``schema.py`` comes with a step of its own in
``versions/``, and a test holds the outcome of all steps against ``schema.py``.
"""
