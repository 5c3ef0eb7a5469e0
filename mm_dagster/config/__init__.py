"""The configuration: configs/*.yaml as validated models, a module a file, cross-checked before anything runs.

Every number of the method is the default of a key here. Unknown keys are refused, and every error names the file, the
key, the value and what would be right. Secrets are never in these files: the environment has them.
"""
