"""A trained network in one page that works offline: ``python -m bundle demo RUN``.

``export`` turns a network into steps and weights, ``page`` puts them into the page; what the page
does stands in ``template/``, in JavaScript without a library.
"""
