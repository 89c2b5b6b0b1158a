"""What a run says: text for people, tables, and the dataset's card."""
