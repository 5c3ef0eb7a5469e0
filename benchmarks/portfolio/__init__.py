"""Which grids to run, how much in each, and how wide: three questions that are asked, and what came of them.

`panel` lays out the daily grids, `judged` says how sure a gain is, and each question has a module of its own:
`rankings` and `ranking`, `weights` and `allocation`, `parameters`. `page` writes the chapter.
"""
