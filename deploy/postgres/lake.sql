-- Run once by the image of PostgreSQL on an empty volume: the lake's catalogue beside Dagster's database.
CREATE DATABASE lake;
