"""Changes that PostgreSQL's triggers see: raw SQL, psql, COPY, cascades in the database."""
