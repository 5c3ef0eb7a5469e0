"""The contract of every table, a module a room: columns, types, units, rules, keys. Stages meet here and nowhere else.

A schema's docstring is the table's description, a column's `description` says what it means and in which unit. All
times are UTC; `as_of` is the closing time of the newest bar that a row knows. Prices and money are in quote currency,
percentages are in percent, probabilities and shares are fractions. Null means "not known", never "zero".
"""
