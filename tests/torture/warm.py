"""What every process needs and would load on first use, loaded once, before they are forked."""

import pandas as pd
import pyarrow.dataset as ds
import pyiceberg.avro.decoder_fast
import sqlalchemy.dialects.sqlite
import sqlglot.generators.duckdb

from layers import views
from torture.life import Life
from torture.work import VIEWS

views(*VIEWS)

__all__ = ["Life", "ds", "pd", "pyiceberg", "sqlalchemy", "sqlglot"]
