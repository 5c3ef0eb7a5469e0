"""Pictures from tables, a module a picture: one function serves Dagster's pages, the alert and the documentation.

Every picture brings its own background, so that it reads on a white page and on a black one alike; `theme` chooses
which. The same rows give the same bytes: no clock, no locale, no font but the one that matplotlib carries.
"""
