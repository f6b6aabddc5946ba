-- Run once, when the server's data folder is made. The scheduler's database is POSTGRES_DB.
CREATE DATABASE monitor OWNER tunewright;
