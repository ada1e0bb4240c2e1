"""The Python interface: what the command line does, as functions and objects.

Its names are also those of the package: ``pointcover.open_model`` is
``pointcover.api.model.open_model``.
"""
