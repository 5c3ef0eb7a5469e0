"""What people read: gathered once, said once, shown by the terminal and the report."""
