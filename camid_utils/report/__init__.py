"""What the results say: tables, the ledger of the paper's claims, statements of the notebooks, the README's table."""
