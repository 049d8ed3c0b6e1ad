"""How pages draw: charts, cards, tables, dialogs."""
